"""The formats that stems are delivered in, their sample rate, and how many bits a sample or a second may have."""

from collections.abc import Sequence
from typing import Final

from unmix.errors import InputError

#: Hz; every song is decoded to it, and stems are delivered in it unless their song's own rate is wanted.
SAMPLE_RATE: Final = 44_100

#: Four stems and their sum in one file: see `unmix.audio.stem_mp4`.
STEM_MP4: Final = "stem.mp4"
_STEMS_OF_STEM_MP4: Final = 4

#: What stems are delivered as, and the media type of each.
MEDIA_TYPES: Final = {
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "opus": "audio/ogg",
    "ogg": "audio/ogg",
    STEM_MP4: "audio/mp4",
}

#: Those that lose something, so that their bit rate can be chosen.
LOSSY: Final = ("mp3", "m4a", "opus", "ogg")

#: Bits of a sample that a format can have; 32 are floating point. Lossy ones are made of 16-bit samples and have none.
BITS: Final = {**dict.fromkeys((*LOSSY, STEM_MP4), (16,)), "wav": (16, 24, 32), "flac": (16, 24)}

#: Those that come in the sample rate of their song too. Lossy ones know only some rates.
OF_ANY_RATE: Final = ("wav", "flac")

#: kbit/s that can be chosen: those of MPEG-1 Layer III, in the order of their index in a frame of mp3.
BITRATES_KBPS: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)


def check_format(format: str, bits: int) -> None:
    """Refuse what stems do not come as.

    Raises:
        InputError: there is no such format (`unknown_format`), or not with as many bits (`unknown_bits`).
    """
    if format not in MEDIA_TYPES:
        raise InputError(f"stems can be had as: {', '.join(MEDIA_TYPES)}", code="unknown_format")
    if bits not in BITS[format]:
        known = " or ".join(map(str, BITS[format]))
        others = [f"{each} {' or '.join(map(str, BITS[each]))}" for each in OF_ANY_RATE if each != format]
        text = f"samples of stems as {format} have {known} bits; those of {', of '.join(others)}"
        raise InputError(text, code="unknown_bits")


def check_rate(format: str, *, song_rate: bool) -> None:
    """Refuse stems in the sample rate of their song that do not come so (`unknown_rate`, an `InputError`)."""
    if song_rate and format not in OF_ANY_RATE:
        known = " or ".join(OF_ANY_RATE)
        text = f"stems as {format} do not come in the rate of the song: ask for {known}, or leave song_rate out"
        raise InputError(text, code="unknown_rate")


def check_stems(format: str, stems: Sequence[str]) -> None:
    """Refuse stems that cannot be had as this format (`unknown_format`, an `InputError`)."""
    if format == STEM_MP4 and len(stems) != _STEMS_OF_STEM_MP4:
        text = f"{format} is of {_STEMS_OF_STEM_MP4} stems, not of {len(stems)}: name as many, or another format"
        raise InputError(text, code="unknown_format")


def check_bitrate(format: str, bitrate_kbps: int | None) -> None:
    """Refuse a bit rate that stems of this format do not have (`unknown_bitrate`, an `InputError`); None is none."""
    if bitrate_kbps is None:
        return
    if format not in LOSSY:
        text = f"only {', '.join(LOSSY)} have a bit rate that can be chosen: leave bitrate_kbps out for {format}"
        raise InputError(text, code="unknown_bitrate")
    if bitrate_kbps not in BITRATES_KBPS:
        known = ", ".join(map(str, BITRATES_KBPS))
        raise InputError(f"the bit rates of {format} in kbit/s are: {known}", code="unknown_bitrate")
