"""What a picture is, by its first bytes: the kinds that songs have as covers, and how large they are."""

import struct
from dataclasses import dataclass
from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
#: Of each type of colour; a palette is one.
_PNG_CHANNELS: Final = {2: 3, 4: 2, 6: 4}
_JPEG: Final = b"\xff\xd8\xff"
#: Pixels of a side; a JPEG cannot have more.
_LONGEST_SIDE: Final = 65_535
#: Second bytes of the markers of JPEG that say how large it is (ITU T.81, table B.1).
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers before one of these; some tens are usual.
_MOST_MARKERS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's media type, its size in pixels, and how many bits each of them has."""

    media_type: str
    width: int
    height: int
    depth: int


def picture_of(data: bytes) -> Picture | None:
    """Return what picture this is; None if it is none that is known."""
    if data.startswith(_PNG):
        kind, size = "image/png", data[16:26]
        width, height, bits, colours = struct.unpack(">2I2B", size) if len(size) == 10 else (0, 0, 0, 0)
        depth = bits * _PNG_CHANNELS.get(colours, 1)
    elif data.startswith(_JPEG):
        kind, (bits, height, width, channels) = "image/jpeg", _frame_of_jpeg(data)
        depth = bits * channels
    else:
        return None
    is_size = 0 < width <= _LONGEST_SIDE and 0 < height <= _LONGEST_SIDE
    return Picture(kind, width, height, depth) if is_size else None


def _frame_of_jpeg(data: bytes) -> tuple[int, int, int, int]:
    """Return bits of a channel, height, width and number of channels; zeros if they are not said."""
    at = 2
    for _ in range(_MOST_MARKERS):
        if at + 10 > len(data) or data[at] != 0xFF:
            break
        if data[at + 1] == 0xFF:  # there may be more of them than one
            at += 1
        elif data[at + 1] in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">B2HB", data, at + 4)
            return bits, height, width, channels
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return 0, 0, 0, 0
