"""Sound keeps its place: silence stands where it begins late, and where frames were lost."""

import re
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray

from audio_files import decoded, encode, film, music
from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.audio.song_reader import measure

SONG = music(4 * SAMPLE_RATE)
#: What is heard in a film.
SOUND = music(3 * SAMPLE_RATE)


def place_of(piece: NDArray[np.float32], song: Samples) -> int:
    """Where in the song the piece lies."""
    size = 1 << (song.shape[1] + len(piece)).bit_length()
    likeness = np.fft.irfft(np.fft.rfft(song[0], size) * np.conj(np.fft.rfft(piece, size)))
    return int(np.argmax(likeness[: song.shape[1]]))


@pytest.mark.parametrize(("container", "codec"), [("matroska", "pcm_s16le"), ("mp4", "aac"), ("mov", "pcm_s16le")])
def test_sound_that_begins_after_the_picture_keeps_its_place(container: str, codec: str) -> None:
    data = film(0.5, container=container, codec=codec)
    samples = decoded(data)
    assert abs(place_of(SOUND[0, 20_000:60_000], samples) - 20_000 - SAMPLE_RATE // 2) < 60
    assert not samples[:, :20_000].any()
    assert [note for note in measure(BytesIO(data)).notes if re.match(r"the sound begins 0\.[45]\d\d s after", note)]


@pytest.mark.parametrize(("container", "codec"), [("matroska", "aac"), ("mp4", "aac"), ("mov", "pcm_s16le")])
def test_sound_that_ends_before_the_picture_is_whole(container: str, codec: str) -> None:
    data = film(0.0, container=container, codec=codec, goes_on_seconds=2)
    assert measure(BytesIO(data)).warnings == ()
    if container == "matroska":  # the others have their index at the end
        (warning,) = measure(BytesIO(data[: len(data) // 2])).warnings
        assert re.fullmatch(r"the file ends early: [12]\.\d s of 3\.\d s", warning)


@pytest.mark.parametrize("begins", [0.0, 100.0])
def test_sound_that_begins_with_the_picture_is_as_it_is_whenever_both_begin(begins: float) -> None:
    data = film(0.0, container="matroska", begins=begins)
    assert measure(BytesIO(data)).notes == ()
    assert decoded(data).shape[1] == 3 * SAMPLE_RATE


@pytest.mark.parametrize("kind", ["mp3", "ac3", "m4a"])
def test_what_follows_damage_keeps_its_place_and_what_is_lost_is_told(kind: str) -> None:
    data = bytearray(encode(kind, SONG))
    whole = decoded(bytes(data))
    at = data.index(b"mdat") + 30_000 if kind == "m4a" else len(data) // 2
    data[at : at + 3_000] = np.random.default_rng(7).bytes(3_000)
    samples = decoded(bytes(data))
    piece = whole[0, 130_000:160_000]
    assert abs(place_of(piece, samples) - 130_000) <= 1
    (warning,) = measure(BytesIO(bytes(data))).warnings
    told = re.fullmatch(r"\d+ broken frames? (?:was|were) skipped, and (\d+) ms of the song are silent", warning)
    assert told
    assert 20 <= int(told[1]) <= 400
