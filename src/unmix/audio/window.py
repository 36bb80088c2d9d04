"""A part of a file as a file: what lies before and behind it, decoders do not see."""

import os
from typing import BinaryIO


class Window:
    """Reads the bytes `[start, end)` of `file`, counted from 0; as much of a file as FFmpeg wants."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._end = end
        self._position = start

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, or what is left."""
        left = max(0, self._end - self._position)
        self._file.seek(self._position)
        data = self._file.read(left if size < 0 else min(size, left))
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position and return it."""
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = max(self._start, base + offset)
        return self.tell()

    def tell(self) -> int:
        """Return where the next byte comes from."""
        return self._position - self._start
