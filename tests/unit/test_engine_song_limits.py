"""What songs may be: how long, at which sample rates, with how many channels and in which order."""

import re
import struct
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pytest

from audio_files import accepted, code_of, encode, music, wav
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import SongReader, measure
from unmix.errors import AudioError

SONG = music(4 * SAMPLE_RATE)


def test_a_long_song_in_a_small_file_is_refused_by_counting_samples() -> None:
    silence = encode("flac", np.zeros((2, 70 * SAMPLE_RATE), np.float32))
    assert len(silence) < 50_000
    assert code_of(silence) == "too_long"


def test_decoding_stops_at_the_limit() -> None:
    reader = SongReader(BytesIO(encode("flac", SONG)), max_seconds=1)
    heard: list[int] = []
    with pytest.raises(AudioError, match="longer than the 1 s"):
        heard.extend(chunk.shape[1] for chunk in reader)
    assert sum(heard) <= SAMPLE_RATE


def test_a_song_of_exactly_the_limits_is_accepted() -> None:
    measure(BytesIO(wav(SONG)), min_seconds=4, max_seconds=4)


def test_a_song_of_less_than_the_least_is_too_short() -> None:
    assert code_of(wav(SONG[:, :4_409])) == "too_short"
    assert code_of(encode("flac", SONG[:, :1])) == "too_short"


@pytest.mark.parametrize("sample_rate", [0, 1, 3_999, 1_000_000, 4_000_000_000])
def test_an_impossible_sample_rate_is_refused(sample_rate: int) -> None:
    assert code_of(wav(SONG[:, :8_000], sample_rate=sample_rate)) == "bad_sample_rate"


def test_the_highest_sample_rates_are_those_of_studios() -> None:
    assert accepted(wav(music(384_000), sample_rate=384_000)).duration_seconds == pytest.approx(1, abs=0.001)
    assert code_of(wav(SONG[:, :8_000], sample_rate=384_001)) == "bad_sample_rate"
    assert accepted(encode("flac", music(192_000), sample_rate=192_000)).samples == SAMPLE_RATE
    assert code_of(encode("flac", music(192_000), sample_rate=384_000)) == "bad_sample_rate"


def test_eight_channels_are_a_song_and_nine_are_none() -> None:
    assert accepted(wav(music(SAMPLE_RATE, channels=8), places=0x63F)).channels == 8
    assert code_of(wav(music(SAMPLE_RATE, channels=10), places=0xF3F)) == "bad_channels"


@pytest.mark.parametrize("kind", ["flac", "au"])
def test_a_few_bytes_do_not_make_an_hour_of_song_by_a_low_sample_rate(kind: str) -> None:
    assert code_of(encode(kind, SONG[:, :8_000], sample_rate=2_000)) == "bad_sample_rate"
    assert accepted(encode(kind, SONG[:, :8_000], sample_rate=4_000)).samples == 88_200


def test_a_low_sample_rate_does_not_hide_behind_frames_of_another() -> None:
    header, hidden = encode("flac", SONG), encode("flac", SONG[:, :8_000], sample_rate=2_000)
    frames = hidden[hidden.index(b"\xff\xf8") :]  # each frame of FLAC begins like this
    assert code_of(header + frames) == "bad_sample_rate"


@pytest.mark.parametrize("channels", [0, 9, 33, 65_535])
def test_an_impossible_number_of_channels_is_refused(channels: int) -> None:
    assert code_of(wav(SONG, claimed_channels=channels)) == "bad_channels"


def caf(labels: Sequence[int]) -> bytes:
    """A second of silence whose file has an order of channels of its own, by Apple's labels: 1 is left, 2 is right."""
    count = len(labels)
    description = b"lpcm" + struct.pack(">5I", 0, 2 * count, 1, count, 16)
    order = struct.pack(">3I", 0, 0, count) + b"".join(struct.pack(">II3f", label, 0, 0, 0, 0) for label in labels)
    samples = bytes(4 + 2 * 44_100 * count)
    chunks = [(b"desc", struct.pack(">d", 44_100) + description), (b"chan", order), (b"data", samples)]
    return b"caff\0\1\0\0" + b"".join(name + struct.pack(">q", len(data)) + data for name, data in chunks)


@pytest.mark.parametrize("labels", [[2, 1], [1, 1], [0xFFFFFFFF, 0]])
def test_two_channels_are_left_and_right_in_whatever_order_the_file_says(labels: list[int]) -> None:
    for _ in range(3):  # PyAV would free such an order more than once
        info = accepted(caf(labels))
        assert (info.channels, info.samples, info.warnings, info.notes) == (2, 44_100, (), ())


@pytest.mark.parametrize("labels", [[3, 2, 1], [2, 1, 3, 4, 6, 5], [2] * 5])
def test_more_channels_in_an_order_of_their_own_are_refused(labels: list[int]) -> None:
    for _ in range(3):
        assert code_of(caf(labels)) == "bad_channels"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (wav(SONG[:, :8_000], sample_rate=384_001), "has a sample rate of 384001 Hz; songs have 4000 to 384000 Hz"),
        (wav(music(SAMPLE_RATE, channels=9)), "has 9 channels; songs have 1 to 8"),
        (caf([3, 2, 1]), "this order of channels is not read; save the song in stereo"),
    ],
    ids=["rate", "channels", "order"],
)
def test_the_refusal_of_an_odd_form_says_what_songs_have(data: bytes, words: str) -> None:
    with pytest.raises(AudioError, match=re.escape(words)):
        measure(BytesIO(data))


def test_channels_whose_places_nobody_knows_are_refused() -> None:
    assert code_of(wav(music(SAMPLE_RATE, channels=9))) == "bad_channels"
