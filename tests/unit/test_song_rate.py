"""Stems in the sample rate of their song: as long as it to the sample, in time with it, and rounded once."""

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audio_files import decoded, encode, film, music, png
from demucs_models import FOUR, htdemucs
from engine_support import loaded
from stem_delivery import delivered
from unmix.audio.song_reader import measure
from unmix.audio.tags import Tags
from unmix.engine.separator import Separator
from unmix.errors import AudioError, InputError
from unmix.job import SeparationOptions
from unmix.settings import Settings
from unmix_worker import child
from unmix_worker.messages import SeparationTask

#: Of films, of records that were restored, of radio, and some that nobody would ask for.
RATES = (48_000, 96_000, 192_000, 22_050, 8_000, 44_101)


def read(path: Path, rate: int) -> NDArray[np.float64]:
    """Return the samples (2, time) of a stem at `rate`, by a reader that knows nothing of us."""
    samples, found = soundfile.read(path, always_2d=True)
    assert found == rate
    return np.asarray(samples.T)


def below_18_khz(samples: NDArray[Any], rate: int) -> NDArray[Any]:
    """Return what of a song a filter for another rate leaves alone."""
    spectrum = np.fft.rfft(samples)
    spectrum[:, np.fft.rfftfreq(samples.shape[1], 1 / rate) > min(18_000, 0.4 * rate)] = 0
    return np.fft.irfft(spectrum, samples.shape[1])


def db(samples: NDArray[Any], beside: NDArray[Any]) -> float:
    return 10 * math.log10(float((samples**2).sum() / (beside**2).sum()))


# What a song tells of itself


@pytest.mark.parametrize(
    ("make", "rate", "samples"),
    [
        (lambda: encode("flac", music(30_011)), 44_100, 30_011),
        (lambda: encode("flac", music(30_011), sample_rate=96_000), 96_000, 30_011),
        (lambda: encode("wav", music(1, channels=1), sample_rate=22_050, layout="mono"), 22_050, 1),
        (lambda: encode("flac", music(200_001, channels=6), sample_rate=48_000, layout="5.1"), 48_000, 200_001),
        # The silence before the sound of a film is part of it.
        (lambda: film(0.5, container="matroska"), 44_100, 132_300),
    ],
    ids=["usual", "fine", "mono", "surround", "film"],
)
def test_a_song_tells_its_own_rate_and_how_many_samples_it_has_in_it(
    make: Callable[[], bytes], rate: int, samples: int
) -> None:
    song = measure(BytesIO(make()))
    assert (song.own_rate, song.own_samples) == (song.level.own_rate, song.level.own_samples) == (rate, samples)


def test_a_song_glued_of_several_rates_has_that_of_most_of_it_and_lasts_as_long() -> None:
    few, many = (encode("mp3", music(rate, sample_rate=rate), sample_rate=rate) for rate in (44_100, 48_000))
    for glued in (few + many, many + few):
        song = measure(BytesIO(glued))
        assert (song.own_rate, song.own_samples) == (48_000, math.ceil(song.samples * 48_000 / 44_100))


# What comes of stems


@pytest.mark.parametrize("rate", RATES)
def test_what_was_resampled_twice_is_in_time_with_the_song_and_like_it(rate: int, tmp_path: Path) -> None:
    song = music(2 * rate + 11, sample_rate=rate)
    ours = decoded(encode("flac", song, sample_rate=rate))
    wish: dict[str, Any] = {"format": "wav", "bits": 32, "song_rate": True}
    made = delivered(tmp_path, {"all": ours}, own_rate=rate, own_samples=song.shape[1], **wish)
    stem = read(made.stems["all"], rate)
    assert stem.shape == song.shape
    assert db(below_18_khz(stem - song, rate), below_18_khz(song, rate)) < -60
    assert made.notes == (f"stems were resampled from 44100 Hz to {rate} Hz",)
    assert list(tmp_path.iterdir()) == [tmp_path / "all.wav"]


@pytest.mark.parametrize("rate", RATES)
def test_a_click_stays_where_it_is(rate: int, tmp_path: Path) -> None:
    song = np.zeros((2, rate), np.float32)
    song[:, rate // 3] = 0.9
    ours = decoded(encode("wav", song, sample_rate=rate))
    made = delivered(tmp_path, {"all": ours}, own_rate=rate, own_samples=rate, format="flac", song_rate=True)
    assert np.abs(read(made.stems["all"], rate)).argmax(axis=1).tolist() == [rate // 3] * 2


@pytest.mark.parametrize("rate", RATES)
def test_stems_of_any_length_have_exactly_the_samples_of_the_song(rate: int, tmp_path: Path) -> None:
    for samples in (1, 2, 3, 146, 147, 148, 1_000, 4_607, 4_608):
        ours = decoded(encode("flac", music(samples), sample_rate=rate))
        for format, bits in (("flac", 16), ("wav", 32)):
            wish: dict[str, Any] = {"format": format, "bits": bits, "song_rate": True}
            made = delivered(tmp_path, {"all": ours}, own_rate=rate, own_samples=samples, **wish)
            assert read(made.stems["all"], rate).shape == (2, samples)


def test_a_part_of_a_song_has_as_many_samples_as_last_as_long_rounded_up(tmp_path: Path) -> None:
    wish: dict[str, Any] = {"format": "wav", "song_rate": True}
    made = delivered(tmp_path, {"all": music(1_001)}, own_rate=96_000, region=range(7, 1_008), **wish)
    assert read(made.stems["all"], 96_000).shape[1] == math.ceil(1_001 * 96_000 / 44_100)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_samples_of_16_bits_are_rounded_once_as_far_as_they_can_be(format: str, tmp_path: Path) -> None:
    own: dict[str, Any] = {"own_rate": 48_000, "own_samples": 43_537, "song_rate": True}
    exact = delivered(tmp_path, {"exact": music(40_000)}, format="wav", bits=32, **own)
    made = delivered(tmp_path, {"all": music(40_000)}, format=format, **own)
    error = read(made.stems["all"], 48_000) - read(exact.stems["exact"], 48_000)
    assert np.abs(error).max() * 32_768 < 0.51


def test_what_is_clipped_before_and_after_is_one_warning_for_each_stem(tmp_path: Path) -> None:
    own: dict[str, Any] = {"own_rate": 48_000, "own_samples": 43_537, "song_rate": True}
    stems = {"loud": 3 * music(40_000), "quiet": 0.5 * music(40_000)}
    made = delivered(tmp_path, stems, format="flac", **own)
    assert made.clipped["loud"] > int((np.abs(stems["loud"]) > 1).sum())  # what was cut off swings beyond once more
    assert made.warnings == (f"{made.clipped['loud']} samples of loud were beyond full scale and clipped",)
    assert made.clipped["quiet"] == 0
    assert delivered(tmp_path, stems, format="wav", bits=32, **own).warnings == ()


@pytest.mark.parametrize("rate", [4_000, 65_537, 96_001, 191_999, 384_000])
@pytest.mark.parametrize("bits", [16, 24])
def test_a_flac_has_every_rate_that_songs_have(bits: int, rate: int, tmp_path: Path) -> None:
    wish: dict[str, Any] = {"format": "flac", "bits": bits, "song_rate": True}
    made = delivered(tmp_path, {"all": music(1_000)}, own_rate=rate, own_samples=10, **wish)
    assert read(made.stems["all"], rate).shape[1] == 10
    with av.open(made.stems["all"]) as opened:
        assert opened.streams.audio[0].codec_context.sample_rate == rate


def test_a_stem_has_tags_and_a_cover_as_in_any_rate(tmp_path: Path) -> None:
    tags = Tags({"title": "Song", "artist": "Somebody"}, png())
    own: dict[str, Any] = {"own_rate": 48_000, "own_samples": 1_088, "song_rate": True}
    made = delivered(tmp_path, {"bass": music(1_000)}, tags=tags, format="flac", **own)
    with av.open(made.stems["bass"]) as opened:
        assert opened.metadata["title"] == "Song (bass)"
        assert len(opened.streams.video) == 1


def test_one_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    own: dict[str, Any] = {"own_rate": 48_000, "own_samples": 9_796, "song_rate": True}
    with pytest.raises(KeyboardInterrupt):
        delivered(tmp_path, {"all": music(9_000)}, format="wav", go_on=stop, **own)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["mp3", "m4a", "opus"])
def test_other_formats_do_not_come_in_the_rate_of_a_song(format: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ask for wav or flac") as caught:
        delivered(tmp_path, {"all": music(100)}, format=format, song_rate=True)
    assert (caught.value.code, caught.value.retryable) == ("unknown_rate", False)


@pytest.mark.parametrize("rate", [0, 1, 10**9])
def test_a_rate_that_no_song_has_is_refused(rate: int, tmp_path: Path) -> None:
    """Whatever a decoder says that was taken over."""
    with pytest.raises(AudioError) as caught:
        delivered(tmp_path, {"all": music(100)}, own_rate=rate, format="wav", song_rate=True)
    assert caught.value.code == "bad_sample_rate"


# Whole songs


@pytest.fixture(scope="module")
def separator(tmp_path_factory: pytest.TempPathFactory) -> Separator:
    return Separator(loaded(htdemucs(), tmp_path_factory.mktemp("model")), backend="torch", threads=1)


@pytest.mark.parametrize("rate", [48_000, 96_000, 22_050])
def test_stems_add_up_to_the_song_in_its_own_rate(rate: int, separator: Separator, tmp_path: Path) -> None:
    song = music(rate + 1, sample_rate=rate)
    (tmp_path / "song").write_bytes(encode("flac", song, sample_rate=rate))
    told: list[tuple[int, int]] = []
    made = separator.separate_file(
        tmp_path / "song",
        tmp_path / "out",
        format="wav",
        bits=32,
        song_rate=True,
        mixture_consistency=True,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert made.stems == {stem: tmp_path / "out" / f"{stem}.wav" for stem in FOUR}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"{stem}.wav" for stem in FOUR)
    stems = [read(path, rate) for path in made.stems.values()]
    assert {stem.shape for stem in stems} == {song.shape}
    assert db(below_18_khz(np.sum(stems, axis=0) - song, rate), below_18_khz(song, rate)) < -60
    assert made.notes == (
        f"resampled from {rate} Hz to 44100 Hz",
        f"stems were resampled from 44100 Hz to {rate} Hz",
    )
    assert told[-1] == (made.segments, made.segments)


def test_of_a_song_at_44_1_khz_they_are_the_very_files_that_it_has_anyway(separator: Separator, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(encode("mp3", music(60_001)))
    usual = separator.separate_file(tmp_path / "song", tmp_path / "usual", format="flac")
    made = separator.separate_file(tmp_path / "song", tmp_path / "out", format="flac", song_rate=True)
    assert [path.read_bytes() for path in made.stems.values()] == [path.read_bytes() for path in usual.stems.values()]
    assert (made.notes, made.peaks) == (usual.notes, usual.peaks)


def test_a_part_of_a_song_begins_at_its_start(separator: Separator, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(encode("flac", music(48_000, sample_rate=48_000), sample_rate=48_000))
    options: dict[str, Any] = {"format": "wav", "bits": 32, "song_rate": True, "stems": ["vocals"]}
    whole = separator.separate_file(tmp_path / "song", tmp_path / "whole", **options)
    part = separator.separate_file(tmp_path / "song", tmp_path / "part", **options, start=0.25, end=0.75)
    there = read(whole.stems["vocals"], 48_000)[:, 12_000:36_000]
    found = read(part.stems["vocals"], 48_000)
    assert found.shape == there.shape
    middle = slice(200, -200)  # at both ends the filter knows nothing of what lies beyond
    assert np.abs(found - there)[:, middle].max() < 1e-4


def test_a_worker_makes_them_if_its_task_says_so(separator: Separator, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(encode("flac", music(30_001), sample_rate=48_000))
    options = SeparationOptions("small", format="wav", song_rate=True)
    task = SeparationTask.of(options, tmp_path / "song", tmp_path / "out", 192)
    done = child._as_a_whole(task, separator, Settings(), lambda _: None)
    assert {read(Path(path), 48_000).shape for path in done.stems.values()} == {(2, 30_001)}
    assert done.notes[-1] == "stems were resampled from 44100 Hz to 48000 Hz"
