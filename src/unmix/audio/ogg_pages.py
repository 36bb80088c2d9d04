"""Pages of Ogg, as bytes and as what they hold; RFC 3533, section 6."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, Self

CONTINUES_PACKET: Final = 1
ENDS_STREAM: Final = 4

#: Magic, version, flags, position, serial number, number of the page, checksum, count of segments.
_HEAD: Final = struct.Struct("<4sBBqIIIB")
_CHECKSUM_AT: Final = 22
_MOST_SEGMENTS: Final = 255
_WHOLE_SEGMENT: Final = 255  # bytes; a packet ends with a shorter one
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Page:
    """A page: `position` is the sample at which its last whole packet ends, -1 if none does.

    `lacing` has the lengths of the segments of which the packets in `body` are made.
    """

    flags: int
    position: int
    lacing: bytes
    body: bytes

    @classmethod
    def taken_from(cls, data: bytearray) -> Iterator[Self]:
        """Yield the whole pages with which `data` begins, and remove them from it."""
        while len(data) >= _HEAD.size:
            _, _, flags, position, _, _, _, segments = _HEAD.unpack_from(data)
            body = _HEAD.size + segments
            lacing = bytes(data[_HEAD.size : body])
            end = body + sum(lacing)
            if len(data) < end:
                return
            page = cls(flags, position, lacing, bytes(data[body:end]))
            del data[:end]
            yield page

    @classmethod
    def all_of(cls, packets: Sequence[bytes]) -> Iterator[Self]:
        """Yield pages of packets in which no time passes: those before the sound."""
        lacing, body = b"".join(map(_lacing, packets)), b"".join(packets)
        start, continues = 0, False
        for first in range(0, len(lacing), _MOST_SEGMENTS):
            segments = lacing[first : first + _MOST_SEGMENTS]
            position = 0 if min(segments) < _WHOLE_SEGMENT else -1
            end = start + sum(segments)
            yield cls(CONTINUES_PACKET if continues else 0, position, segments, body[start:end])
            start, continues = end, segments[-1] == _WHOLE_SEGMENT

    def encoded(self, *, serial: int, number: int) -> bytes:
        """Return the page as the one of this number in the stream of this serial number."""
        head = _HEAD.pack(b"OggS", 0, self.flags, self.position, serial, number, 0, len(self.lacing))
        page = bytearray(head + self.lacing + self.body)
        struct.pack_into("<I", page, _CHECKSUM_AT, _checksum(page))
        return bytes(page)

    @property
    def is_before_sound(self) -> bool:
        """Tell if it holds nothing but headers."""
        return self.position <= 0 and not self.flags & ENDS_STREAM


class PageWriter:
    """Write pages into `file` as one stream, whose serial number follows from its headers and its first sound.

    Files that are chained need different numbers, and the same song has to give the same bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._headers: list[Page] = []  # until the sound begins
        self._serial: int | None = None  # known from then on
        self._number = 0

    def write(self, page: Page) -> None:
        """Append `page`, whatever its number was."""
        if self._serial is not None:
            self._put(page, self._serial)
        elif page.is_before_sound:
            self._headers.append(page)
        else:
            begin = [*self._headers, page]
            self._serial = zlib.crc32(b"".join(each.body for each in begin))
            for each in begin:
                self._put(each, self._serial)

    def _put(self, page: Page, serial: int) -> None:
        self._file.write(page.encoded(serial=serial, number=self._number))
        self._number += 1


class Renumbered:
    """What FFmpeg writes an Ogg into in place of `file`: it would give the streams of all files the same number."""

    def __init__(self, file: BinaryIO) -> None:
        self._pages = PageWriter(file)
        self._rest = bytearray()  # the beginning of a page

    def write(self, data: bytes) -> int:
        """Take the next bytes, and return how many."""
        self._rest += data
        for page in Page.taken_from(self._rest):
            self._pages.write(page)
        return len(data)


def _lacing(packet: bytes) -> bytes:
    whole, rest = divmod(len(packet), _WHOLE_SEGMENT)
    return bytes([_WHOLE_SEGMENT]) * whole + bytes([rest])


def _checksum(page: bytearray) -> int:
    """Return Ogg's CRC: zlib's polynomial with the bits in the other order, beginning with zeros, not inverted."""
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{reflected:032b}"[::-1], 2)
