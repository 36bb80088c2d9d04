"""Temporary files of songs on their way: bounded in all, and gone with the process, however it ends.

Each has the name of a file, as the check of a song needs one, and is locked while its process lives; whoever starts
removes those that nobody locks. What is announced counts from the beginning on, so that a song that will not fit is
refused before the disk is full, and nobody else's breaks off.
"""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import structlog

from unmix.errors import UnmixError
from unmix_rest.http.upload_room import UploadRoom

log = structlog.get_logger()

_PREFIX: Final = "unmix-upload-"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Temporary:
    """The temporary files of one process. Safe for threads."""

    def __init__(self, room: UploadRoom) -> None:
        self._room = room

    @contextmanager
    def file(self, client: str, expected_bytes: int) -> Iterator["TemporaryFile"]:
        """Make a file that is gone when the context is left; more may be written than is expected, if it fits.

        Raises:
            UnmixError: there is no room (`no_room`), here or while it is written.
        """
        with _full_as_no_room():
            made = TemporaryFile(self._room, client, *_locked_file())
        with made:
            made.announce(expected_bytes)
            yield made


class TemporaryFile:
    """One file, unbuffered: what it cannot take is known at once."""

    def __init__(self, room: UploadRoom, client: str, file: IO[bytes], path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._room = room
        self._client = client
        self._file = file
        self._announced_bytes = 0

    def announce(self, size_bytes: int) -> None:
        """Take room for so much in all.

        Raises:
            UnmixError: there is not so much (`no_room`).
        """
        more = size_bytes - self._announced_bytes
        if more > 0:
            self._room.take(self._client, more)
            self._announced_bytes = size_bytes

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            UnmixError: there is no room for them (`no_room`).
        """
        self.announce(self.size_bytes + len(data))
        rest = memoryview(data)
        with _full_as_no_room():
            while rest:
                count = self._file.write(rest)
                self.size_bytes += count
                self._room.note_written(count)
                rest = rest[count:]

    def __enter__(self) -> "TemporaryFile":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            self.path.unlink()
        self._file.close()
        never_came = self._announced_bytes - self.size_bytes
        self._room.give_back(self._client, self._announced_bytes, to_come=never_came)


def sweep_leftovers() -> None:
    """Remove the files of processes that were killed."""
    count = 0
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, locked by a process that lives, or just removed by one
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid():
                    path.unlink()
                    count += 1
            finally:
                os.close(descriptor)
    if count:
        log.info("leftover songs removed", files=count)


def _locked_file() -> tuple[IO[bytes], Path]:
    while True:
        descriptor, path = tempfile.mkstemp(prefix=_PREFIX)
        file = os.fdopen(descriptor, "wb", buffering=0)
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return file, Path(path)
        file.close()  # a process that has just started has taken it for a leftover


@contextmanager
def _full_as_no_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UnmixError("the disk of temporary files is full", code="no_room", retryable=True) from error
        raise
