"""Temporary files of songs on their way: bounded in all, and gone with the process, however it ends.

Each has the name of a file, as the check of a song needs one, and is locked while its process lives; whoever starts
removes those that nobody locks. What is announced counts from the beginning on, so that a song that will not fit is
refused before the disk is full, and nobody else's breaks off.
"""

import errno
import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import structlog

from unmix.errors import StoreError, UnmixError
from unmix.ledger.room import refuse_if_full, room_at

log = structlog.get_logger()

_PREFIX: Final = "unmix-upload-"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Temporary:
    """The temporary files of one process. Safe for threads."""

    def __init__(self, *, most_bytes: int, min_free_gb: float) -> None:
        self._most_bytes = most_bytes
        self._min_free_gb = min_free_gb
        self._counting = threading.Lock()
        self._promised = 0  # bytes of all files, written or not
        self._written = 0

    @contextmanager
    def file(self, expected_bytes: int) -> Iterator["TemporaryFile"]:
        """Make a file that is gone when the context is left; more may be written than is expected, if it fits.

        Raises:
            UnmixError: there is no room (`no_room`), here or while it is written.
        """
        with _full_as_no_room():
            made = TemporaryFile(self, *_locked_file())
        with made:
            self.promise(made, expected_bytes)
            try:
                yield made
            finally:
                with self._counting:
                    self._promised -= made.promised_bytes
                    self._written -= made.size_bytes

    def promise(self, file: "TemporaryFile", size_bytes: int) -> None:
        """Keep so much room for a file in all.

        Raises:
            UnmixError: there is not so much (`no_room`).
        """
        more = size_bytes - file.promised_bytes
        with self._counting:
            if more <= 0:
                return
            if self._promised + more > self._most_bytes:
                raise _no_room("as many songs are on their way as there is room for")
            try:
                to_come = self._promised - self._written + more
                refuse_if_full(room_at(file.path.parent), self._min_free_gb, more_bytes=to_come)
            except StoreError as error:
                raise _no_room("the disk of temporary files is full") from error
            self._promised += more
            file.promised_bytes = size_bytes

    def note_written(self, count: int) -> None:
        """Note that so many bytes are on the disk now."""
        with self._counting:
            self._written += count


class TemporaryFile:
    """One file, unbuffered: what it cannot take is known at once."""

    def __init__(self, temporary: Temporary, file: IO[bytes], path: Path) -> None:
        self._temporary = temporary
        self._file = file
        self.path = path
        self.promised_bytes = 0
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            UnmixError: there is no room for them (`no_room`).
        """
        self._temporary.promise(self, self.size_bytes + len(data))
        rest = memoryview(data)
        with _full_as_no_room():
            while rest:
                count = self._file.write(rest)
                self.size_bytes += count
                self._temporary.note_written(count)
                rest = rest[count:]

    def __enter__(self) -> "TemporaryFile":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            self.path.unlink()
        self._file.close()


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
            raise _no_room("the disk of temporary files is full") from error
        raise


def _no_room(message: str) -> UnmixError:
    return UnmixError(message, code="no_room", retryable=True)
