"""The object store as a folder: the embedded default, for one machine or a shared file system.

An object is a file below `root/bucket/`; `unmix.store.file_layout` says where. It is written elsewhere under `root`,
brought to disk, and only then renamed or linked to its name, so that a reader sees the old object, the new one or none,
never half of one, whoever dies. Files are never changed in place; that is why a copy may be a hard link. Beside the
buckets lie `.tmp` (files being written) and `.lock` (held for the moment in which a name changes); no bucket can have
such a name.
"""

import errno
import fcntl
import io
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from unmix.errors import ObjectChangedError, ObjectMissingError, StoreError
from unmix.names import OUTPUT_BUCKET, QUEUE_BUCKET, ObjectName
from unmix.store import file_layout
from unmix.store.protocol import ObjectInfo, Room
from unmix.store.shared import CHUNK_BYTES, check_bucket, check_object_name, whole_file

#: Age at which a file in `.tmp` counts as left over by a process that died.
LEFTOVER_SECONDS: Final = 3600.0

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_DENIED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


class FileStore:
    """An `ObjectStore` in the folder `root`, safe for any number of threads and processes."""

    conditional_puts: bool = True

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._temporary_dir = self.root / ".tmp"
        self._lock_file = self.root / ".lock"

    def prepare(self) -> None:
        """Make the folders, remove what dead processes left half written, and prove that writing works."""
        with self._errors("be prepared"):
            for folder in (self._temporary_dir, self.root / QUEUE_BUCKET, self.root / OUTPUT_BUCKET):
                folder.mkdir(parents=True, exist_ok=True)
            for leftover in self._temporary_dir.iterdir():
                with suppress(FileNotFoundError):  # its owner or another process was faster
                    # ctime and not mtime: the link that `copy` makes is as old as its source by mtime.
                    if leftover.stat().st_ctime < time.time() - LEFTOVER_SECONDS:
                        leftover.unlink()
            with self._temporary(io.BytesIO()):
                pass
            for bucket in (QUEUE_BUCKET, OUTPUT_BUCKET):
                for key in file_layout.misplaced(self.root / bucket):
                    self._move_over(ObjectName(bucket, key))

    def put(self, name: ObjectName, data: bytes) -> None:
        """Put a small object whole."""
        self._put(name, io.BytesIO(data), os.replace)

    def put_file(self, name: ObjectName, path: Path) -> None:
        """Put the file at `path`, of any size."""
        with path.open("rb") as source:
            self._put(name, source, os.replace)

    def put_stream(self, name: ObjectName, stream: BinaryIO, size_bytes: int) -> None:
        """Put all that `stream` has."""
        self._put(name, stream, os.replace)

    def put_if(self, name: ObjectName, data: bytes, *, etag: str | None) -> None:
        """Put only if the object still has `etag`; None: only if there is no such object."""

        def create(temporary: Path, target: Path) -> None:
            try:
                os.link(temporary, target)  # atomic by itself: it never replaces
            except OSError as error:
                if target.is_file():
                    raise ObjectChangedError(f"{name} exists already") from error
                os.replace(temporary, target)  # no hard links on this file system: the lock must do

        def replace(temporary: Path, target: Path) -> None:
            found = self.stat(name)
            if found is None or found.etag != etag:
                raise ObjectChangedError(f"{name} is not what it was")
            os.replace(temporary, target)

        self._put(name, io.BytesIO(data), create if etag is None else replace)

    def get(self, name: ObjectName) -> tuple[bytes, str]:
        """Return a small object's bytes and etag."""
        with self.open(name) as file, self._errors(f"read {name}", denied="store_denied"):
            return file.read(), _etag(os.fstat(file.fileno()))

    def get_file(self, name: ObjectName, path: Path) -> None:
        """Write an object of any size to `path`."""
        with self.open(name) as source, whole_file(path) as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    def open(self, name: ObjectName) -> BinaryIO:
        """Open an object for reading from its start; it stays readable when replaced or removed meanwhile."""
        with self._errors(f"read {name}", denied="store_denied"):
            try:
                return self._path(name).open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                if self._move_over(name):  # somebody put it there by hand
                    return self.open(name)
                if (self.root / name.bucket).is_dir():
                    raise ObjectMissingError(f"there is no {name} in the store at {self.root}") from error
                # An unmounted disk must not look like a store without songs.
                raise self._no_bucket(name.bucket) from error

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        """Return what is known of an object, None if there is none."""
        try:
            with self.open(name) as file:
                return _info(name, os.fstat(file.fileno()))
        except ObjectMissingError:
            return None

    def copy(self, source: ObjectName, target: ObjectName) -> None:
        """Give `target` the bytes of `source`, and its `modified_at`, by a hard link where there are hard links."""
        link = self._new_temporary_path()
        with self.open(source) as file, self._errors(f"write {target}"):
            try:
                os.link(self._path(source), link)
            except OSError:
                self._put(target, file, os.replace)
                return
            try:
                self._publish(link, target, os.replace)
            finally:
                # Renaming onto another link of the same file does nothing and leaves both names.
                link.unlink(missing_ok=True)

    def remove(self, name: ObjectName) -> None:
        """Remove an object and the folders that it leaves empty."""
        path = self._path(name)
        with self._errors(f"remove {name}"):
            self._move_over(name)
            with self._lock():
                if not path.is_file():
                    return
                path.unlink()
                with suppress(OSError):  # the first folder that is not empty ends this
                    for folder in self._folders_of(name):
                        folder.rmdir()
            self._sync_folders(name)

    def room(self) -> Room | None:
        """Return the room on the folder's disk, as far as this user may take it."""
        with self._errors("tell its room"):
            usage = shutil.disk_usage(self.root)
        return Room(usage.free, usage.total)

    def presigned_put(self, name: ObjectName, *, seconds: int) -> str | None:
        """Return None: nobody else can reach a folder."""
        return None

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects of `bucket` whose key begins with `prefix`, sorted by key."""
        check_bucket(bucket)
        with self._errors(f"list {bucket}", denied="store_denied"):
            if not (self.root / bucket).is_dir():
                raise self._no_bucket(bucket)
            for key, found in file_layout.walk(self.root / bucket, prefix):
                yield _info(ObjectName(bucket, key), found)

    def _move_over(self, name: ObjectName) -> bool:
        """Move an object from where earlier versions put it; tell whether it was there."""
        old, new = self.root / name.bucket / name.key, self._path(name)
        if old == new or not old.is_file():
            return False
        with self._lock():
            if not old.is_file():
                return new.is_file()  # another process was faster
            new.parent.mkdir(parents=True, exist_ok=True)
            if new.exists():
                old.unlink()  # what is in its place is newer: only an earlier version or a person puts anything here
            elif old.is_symlink():
                new.symlink_to(old.resolve())
                old.unlink()
            else:
                os.replace(old, new)
            with suppress(OSError):  # the first folder that is not empty ends this
                for folder in old.parents:
                    folder.rmdir()
        return True

    def _put(self, name: ObjectName, source: BinaryIO, place: Callable[[Path, Path], None]) -> None:
        check_object_name(name)
        with self._errors(f"write {name}"), self._temporary(source) as temporary:
            self._publish(temporary, name, place)

    def _publish(self, temporary: Path, name: ObjectName, place: Callable[[Path, Path], None]) -> None:
        """Let `place` move a finished file to its name, while no other name changes."""
        target = self._path(name)
        self._move_over(name)
        try:
            with self._lock():
                target.parent.mkdir(parents=True, exist_ok=True)
                place(temporary, target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise StoreError(
                f"{name} cannot be stored beside what is there: a file store holds no two keys like 'a' and 'a/b'",
                code="bad_object_name",
                retryable=False,
            ) from error
        self._sync_folders(name)

    @contextmanager
    def _temporary(self, source: BinaryIO) -> Iterator[Path]:
        """Bring the bytes of `source` to disk under a name that no listing shows, for as long as the block runs."""
        path = self._new_temporary_path()
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
                file.flush()
                # Kernels stamp files by a tick of some milliseconds, and XFS gives the inode of a removed file out
                # again at once: two objects could get the same etag. The clock's nanoseconds tell them apart.
                now = time.time_ns()
                os.utime(file.fileno(), ns=(now, now))
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep all other threads and processes from changing names; the kernel frees the lock of whoever dies."""
        # Read-only, so that the lock file of another user's process serves too.
        descriptor = os.open(self._lock_file, os.O_RDONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _errors(self, doing: str, *, denied: str = "store_read_only") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            text = f"the store at {self.root} cannot {doing}: {error.strerror or error}"
            if error.errno in _FULL:
                raise StoreError(text, code="store_full") from error
            if error.errno in _DENIED:
                raise StoreError(text, code=denied, retryable=False) from error
            raise StoreError(text) from error

    def _sync_folders(self, name: ObjectName) -> None:
        """Bring the folders on the way to `name` to disk, as they may be new."""
        for folder in (*self._folders_of(name), self.root / name.bucket):
            with suppress(FileNotFoundError, NotADirectoryError):  # removed meanwhile with its last object
                descriptor = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def _folders_of(self, name: ObjectName) -> tuple[Path, ...]:
        """Return the folders between an object and its bucket, innermost first."""
        path = self._path(name)
        return tuple(folder for folder in path.parents if folder.is_relative_to(self.root / name.bucket))[:-1]

    def _path(self, name: ObjectName) -> Path:
        check_object_name(name)
        path = file_layout.path_of(name.key)
        if path is None:
            raise StoreError(f"{name} would lie among the objects of a song", code="bad_object_name", retryable=False)
        return self.root / name.bucket / path

    def _new_temporary_path(self) -> Path:
        return self._temporary_dir / secrets.token_hex(16)

    def _no_bucket(self, bucket: str) -> StoreError:
        return StoreError(f"the store at {self.root} has no bucket {bucket!r}", code="bucket_missing")


def _info(name: ObjectName, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(name, found.st_size, _etag(found), found.st_mtime)


def _etag(found: os.stat_result) -> str:
    """Name this very file. A digest of the bytes would make every listing read the whole store."""
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
