"""Odd, broken and empty songs through the separator: stems of the exact length, or a clear error and no file at all."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from audio_files import encode, music, wav
from demucs_models import FOUR, htdemucs
from engine_support import loaded
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import SongReader, measure
from unmix.engine.separator import Separator
from unmix.errors import AudioError

SONG = music(2 * SAMPLE_RATE)


@pytest.fixture(scope="module")
def separator(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Separator:
    """One for all songs of this file, bad ones and good ones in turn."""
    return Separator(loaded(htdemucs(), tmp_path_factory.mktemp("model")), cache_dir=cache_dir)


@pytest.fixture
def out(tmp_path: Path, separator: Separator) -> Iterator[Path]:
    """A folder for stems; whatever was done to the separator, it works for the next song."""
    yield tmp_path / "out"
    (tmp_path / "good").write_bytes(wav(music(20_000)))
    assert separator.separate_file(tmp_path / "good", tmp_path / "good-out", format="wav").samples == 20_000


def with_sample(value: float, *, at: int) -> bytes:
    song = SONG.copy()
    song[1, at] = value
    return wav(song)


def damaged(data: bytes) -> bytes:
    """Return `data` with noise in its middle."""
    middle = len(data) // 2
    return data[:middle] + np.random.default_rng(7).bytes(1_500) + data[middle + 1_500 :]


REFUSED = {
    "no bytes": (b"", "not_audio"),
    "words": (b"just some words, nothing to hear\n" * 100, "not_audio"),
    "a wav of no samples": (wav(SONG[:, :0]), "no_audio_frames"),
    "a header alone": (encode("mp3", SONG)[:400], "no_audio_frames"),
    "NaN at the beginning": (with_sample(np.nan, at=0), "bad_samples"),
    "NaN at the end": (with_sample(np.nan, at=SONG.shape[1] - 1), "bad_samples"),
    "infinite in the middle": (with_sample(-np.inf, at=50_000), "bad_samples"),
    "broken off in its first second": (encode("flac", SONG)[:40_000], "undecodable"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_song_that_cannot_be_separated_is_refused_and_leaves_no_file(
    name: str, separator: Separator, tmp_path: Path, out: Path
) -> None:
    data, code = REFUSED[name]
    (tmp_path / "song").write_bytes(data)
    with pytest.raises(AudioError) as caught:
        separator.separate_file(tmp_path / "song", out)
    assert caught.value.code == code
    assert not out.exists() or not list(out.iterdir())


ACCEPTED = {
    "one sample": (wav(SONG[:, :1]), ""),
    "8 kHz mono": (wav(music(12_000, channels=1), sample_rate=8_000), "resampled from 8000 Hz"),
    "192 kHz 5.1": (
        wav(music(300_000, channels=6, sample_rate=192_000), sample_rate=192_000),
        "mixed down from 6 channels to stereo",
    ),
    "an mp3 with noise in its middle": (damaged(encode("mp3", SONG)), "skipped"),
    "a flac that breaks off": (encode("flac", SONG)[:150_000], "skipped"),
    "a wav that breaks off": (wav(SONG)[:500_000], "the file ends early"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_odd_song_gets_stems_of_its_exact_length_and_a_remark(
    name: str, separator: Separator, tmp_path: Path, out: Path
) -> None:
    data, remark = ACCEPTED[name]
    song = tmp_path / "song"
    song.write_bytes(data)
    separation = separator.separate_file(song, out, format="flac")
    assert list(separation.stems) == FOUR
    assert remark in " ".join((*separation.warnings, *separation.notes))
    assert separation.samples == measure(song).samples > 0
    for stem in separation.stems.values():
        assert sum(chunk.shape[1] for chunk in SongReader(stem)) == separation.samples


def test_a_song_that_is_gone_when_it_is_read_again_is_an_error_and_leaves_no_file(
    separator: Separator, tmp_path: Path, out: Path
) -> None:
    song = tmp_path / "song"
    song.write_bytes(wav(SONG))
    with pytest.raises(AudioError) as caught:
        separator.separate_file(song, out, on_progress=lambda done, total: song.unlink(missing_ok=True))
    assert caught.value.code == "unreadable"
    assert not list(out.iterdir())
