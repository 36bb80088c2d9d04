"""The formats that stems are delivered in, their sample rate, and how many bits a sample may have in each."""

from typing import Final

from unmix.errors import InputError

#: Hz; every song is decoded to it and every stem is delivered in it.
SAMPLE_RATE: Final = 44_100

#: What stems are delivered as, and the media type of each.
MEDIA_TYPES: Final = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac"}

#: Bits of a sample that a format can have; 32 are floating point. An mp3 is made of 16-bit samples and has none itself.
BITS: Final = {"mp3": (16,), "wav": (16, 24, 32), "flac": (16, 24)}


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
