"""Tags and zeros around the frames of a song are nothing broken, and do not change how long it says it is."""

import struct
from io import BytesIO

import pytest

from audio_files import accepted, encode, music, noise
from unmix.audio.mpeg import promised_seconds
from unmix.audio.samples import SAMPLE_RATE

SONG = music(4 * SAMPLE_RATE)


NOISE = noise(100_000)  # with a thousand bytes in it that begin a frame


ID3V1 = b"TAG" + b"x" * 125


def an_ape_tag(value: bytes) -> bytes:
    item = struct.pack("<II", len(value), 2) + b"Cover Art (Front)\0" + value
    header, footer = (
        b"APETAGEX" + struct.pack("<4I8x", 2_000, len(item) + 32, 1, flags) for flags in (0xA0000000, 0x80000000)
    )
    return header + item + footer


def lyrics(version: int) -> bytes:
    words = b"LYRICSBEGIN" + (b"LYR00400" + b"lala" * 100 if version == 2 else b"lala" * 100)
    return words + (b"%06dLYRICS200" % len(words) if version == 2 else b"LYRICSEND")


@pytest.mark.parametrize(
    "behind",
    [
        ID3V1,
        an_ape_tag(b"a title"),
        an_ape_tag(NOISE),
        an_ape_tag(NOISE) + ID3V1,
        an_ape_tag(NOISE) + lyrics(2) + ID3V1,
        lyrics(2),
        lyrics(1) + ID3V1,
        b"ID3\x04\0\x10\0\0\x07\x68" + bytes(1_000) + b"3DI\x04\0\x10\0\0\x07\x68",
        bytes(100),
        bytes(5_000_000),
        ID3V1 + bytes(10_000),
    ],
    ids=[
        "ID3v1",
        "APEv2",
        "APEv2 with a picture",
        "APEv2 and ID3v1",
        "three tags",
        "Lyrics3v2",
        "Lyrics3v1",
        "ID3v2.4",
        "zeros",
        "5 MB of zeros",
        "ID3v1 and zeros",
    ],
)
def test_what_stands_behind_the_frames_of_a_whole_mp3_is_nothing_broken(behind: bytes) -> None:
    info = accepted(encode("mp3", SONG) + behind)
    assert (info.samples, info.warnings) == (SONG.shape[1], ())


def test_a_tag_that_claims_to_be_longer_than_its_file_costs_no_samples() -> None:
    tag = bytearray(an_ape_tag(b"a title"))
    tag[-20:-16] = struct.pack("<I", 0x7FFFFFFF)
    assert abs(accepted(encode("mp3", SONG) + bytes(tag)).samples - SONG.shape[1]) <= 1_105


@pytest.mark.parametrize("kind", ["aac", "ac3", "eac3"])
def test_a_tag_behind_bare_frames_is_nothing_broken(kind: str) -> None:
    song = encode(kind, SONG)
    info = accepted(song + an_ape_tag(NOISE))
    assert (info.samples, info.warnings) == (accepted(song).samples, ())


def test_an_mp3_whose_second_half_is_zeros_ends_early() -> None:
    song = encode("mp3", SONG)
    info = accepted(song[: len(song) // 2] + bytes(len(song) // 2))
    assert [warning.split(":")[0] for warning in info.warnings] == ["the file ends early"]


def test_zeros_in_the_middle_of_a_song_are_broken_frames() -> None:
    song = bytearray(encode("mp3", SONG))
    middle = len(song) // 2
    song[middle : middle + 3_000] = bytes(3_000)
    assert any("broken frame" in warning for warning in accepted(bytes(song)).warnings)


@pytest.mark.parametrize("sample_rate", [48_000, 22_050, 16_000])
def test_an_mp3_of_any_rate_promises_what_it_holds(sample_rate: int) -> None:
    song = encode("mp3", music(3 * sample_rate, sample_rate=sample_rate), sample_rate=sample_rate)
    assert promised_seconds(BytesIO(song)) == pytest.approx(3, abs=0.2)
    assert not accepted(song).warnings
    assert promised_seconds(BytesIO(song[len(song) // 2 :])) == 0
