"""A FLAC of some hundred kB that takes many seconds to decode: an hour and more of eight channels at 192 kHz.

Every frame says of each channel that it is one and the same sample (RFC 9639, section 9.2.3: a constant subframe), so
that it costs its sender next to nothing. It is too long to be accepted, which is found out by decoding it.
"""

import struct
from typing import Final

SECONDS: Final = 4_000
_RATE: Final = 192_000
_CHANNELS: Final = 8
_BITS: Final = 16
_BLOCK: Final = 65_535  # samples of a frame: the most
#: The polynomials of the checksums of a frame's header and of the frame.
_CRC8: Final = 0x07
_CRC16: Final = 0x8005


def costly_flac(seconds: float = SECONDS) -> bytes:
    """Return such a song of this length."""
    subframes = b"\0\0\1" * _CHANNELS  # constant, without wasted bits: the sample 1
    frames = [_stream_info()]
    for number in range(round(seconds * _RATE / _BLOCK)):
        # Fixed blocks; the block's size follows; 192 kHz; eight channels; 16 bits.
        header = b"\xff\xf8\x73\x78" + _coded(number) + struct.pack(">H", _BLOCK - 1)
        header += bytes([_crc(header, _CRC8, 8)])
        frame = header + subframes
        frames.append(frame + struct.pack(">H", _crc(frame, _CRC16, 16)))
    return b"".join(frames)


def _stream_info() -> bytes:
    """Return the file's beginning, which does not say how long it is."""
    facts = _RATE << 44 | _CHANNELS - 1 << 41 | _BITS - 1 << 36
    return b"fLaC\x80\0\0\x22" + struct.pack(">HH6xQ16x", _BLOCK, _BLOCK, facts)


def _coded(number: int) -> bytes:
    """Return the number of a frame as FLAC writes it: as UTF-8 would a character."""
    return chr(number).encode("utf-8", "surrogatepass")


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    remainder = 0
    for byte in data:
        remainder ^= byte << bits - 8
        for _ in range(8):
            remainder = remainder << 1 ^ (polynomial if remainder >> bits - 1 else 0)
            remainder &= (1 << bits) - 1
    return remainder
