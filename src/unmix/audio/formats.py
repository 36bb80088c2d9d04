"""The formats that stems are delivered in, their sample rate, and how many bits a sample or a second may have."""

from typing import Final

from unmix.errors import InputError

#: Hz; every song is decoded to it and every stem is delivered in it.
SAMPLE_RATE: Final = 44_100

#: What stems are delivered as, and the media type of each.
MEDIA_TYPES: Final = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac"}

#: Bits of a sample that a format can have; 32 are floating point. An mp3 is made of 16-bit samples and has none itself.
BITS: Final = {"mp3": (16,), "wav": (16, 24, 32), "flac": (16, 24)}

#: kbit/s that an mp3 at this sample rate can have: those of MPEG-1 Layer III, in the order of their index in a frame.
MP3_BITRATES_KBPS: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)


def check_format(format: str, bits: int) -> None:
    """Refuse what stems do not come as.

    Raises:
        InputError: there is no such format (`unknown_format`), or not with as many bits (`unknown_bits`).
    """
    if format not in MEDIA_TYPES:
        raise InputError(f"stems can be had as: {', '.join(MEDIA_TYPES)}", code="unknown_format")
    if bits not in BITS[format]:
        known = ", ".join(map(str, BITS[format]))
        raise InputError(f"bits of a sample in stems as {format} can be: {known}", code="unknown_bits")


def check_bitrate(format: str, bitrate_kbps: int | None) -> None:
    """Refuse a bit rate that stems of this format do not have (`unknown_bitrate`, an `InputError`); None is none."""
    if bitrate_kbps is None:
        return
    if format != "mp3":
        text = f"only mp3 has a bit rate that can be chosen: leave bitrate_kbps out for {format}"
        raise InputError(text, code="unknown_bitrate")
    if bitrate_kbps not in MP3_BITRATES_KBPS:
        known = ", ".join(map(str, MP3_BITRATES_KBPS))
        raise InputError(f"the bit rates of mp3 in kbit/s are: {known}", code="unknown_bitrate")
