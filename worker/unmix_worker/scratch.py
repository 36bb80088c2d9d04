"""A worker's folder for songs and stems under way, which never outlives the worker for long.

Each worker has a folder of its own, under a lock that the kernel frees when it dies. Whoever starts removes the
folders that nobody locks, so that kills do not fill the disk.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import structlog

from unmix.errors import EngineError

log = structlog.get_logger()

_PREFIX: Final = "worker-"
_LOCK: Final = ".lock"


class Scratch:
    """This worker's folder, in `root` or else beside the system's temporary files.

    Raises:
        EngineError: it cannot be made or locked (`scratch_failed`).
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root or Path(tempfile.gettempdir()) / f"unmix-{os.getuid()}"
        with self._errors(), self._others_waiting():
            for folder in self._root.glob(f"{_PREFIX}*"):
                _remove_if_abandoned(folder)
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._root))
            self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    @contextmanager
    def song(self) -> Iterator[Path]:
        """Give a fresh folder for one song, and remove it after.

        Raises:
            EngineError: the disk is full, read-only or broken (`scratch_failed`); the song may be tried elsewhere.
        """
        with self._errors(), tempfile.TemporaryDirectory(dir=self._folder) as folder:
            yield Path(folder)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)

    @contextmanager
    def _others_waiting(self) -> Iterator[None]:
        """Keep other workers out, so that nobody takes a folder for abandoned before its owner has locked it."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EngineError(
                f"the scratch space in {self._root} failed: {error.strerror or error}",
                code="scratch_failed",
                retryable=True,
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _remove_if_abandoned(folder: Path) -> None:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return  # being removed by its owner, or none of ours
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # its worker lives
    else:
        shutil.rmtree(folder, ignore_errors=True)
        log.info("leftover scratch removed", folder=folder.name)
    finally:
        os.close(descriptor)
