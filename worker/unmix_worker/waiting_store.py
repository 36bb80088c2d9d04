"""An object store that waits: each call is tried again while the store behind it is away, as long as patience lasts.

A worker hands it to the ledger of one job, so that neither the ledger nor the worker's flow has a line about waiting.
All calls are safe to repeat. Reads, removals and puts of the same bytes come to the same when they are done twice. A
conditional put that took effect although its answer was lost finds the object changed at the second try, by itself;
`Ledger` then looks again, finds its own document there, and takes it for what it is.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from unmix.names import ObjectName
from unmix.store.protocol import ObjectInfo, ObjectStore, Room
from unmix_worker.patience import Patience


class WaitingStore:
    """The `ObjectStore` behind it, with patience; every method raises what `Patience.call` raises too."""

    def __init__(self, store: ObjectStore, patience: Patience) -> None:
        self.conditional_puts = store.conditional_puts
        self._store = store
        self._call = patience.call

    def prepare(self) -> None:
        """Make the buckets, and find out what the store can do."""
        self._call(self._store.prepare)
        self.conditional_puts = self._store.conditional_puts

    def put(self, name: ObjectName, data: bytes) -> None:
        """Put a small object whole."""
        self._call(partial(self._store.put, name, data))

    def put_file(self, name: ObjectName, path: Path) -> None:
        """Put the file at `path`."""
        self._call(partial(self._store.put_file, name, path))

    def put_stream(self, name: ObjectName, stream: BinaryIO, size_bytes: int) -> None:
        """Put what `stream` has. What breaks off is not waited for: half of it is used up."""
        self._store.put_stream(name, stream, size_bytes)

    def put_if(self, name: ObjectName, data: bytes, *, etag: str | None) -> None:
        """Put only if the object still has `etag`; it may be one's own earlier try that has changed it."""
        self._call(partial(self._store.put_if, name, data, etag=etag))

    def get(self, name: ObjectName) -> tuple[bytes, str]:
        """Return a small object's bytes and etag."""
        return self._call(partial(self._store.get, name))

    def get_file(self, name: ObjectName, path: Path) -> None:
        """Write an object to `path`; a transfer that breaks off begins again."""
        self._call(partial(self._store.get_file, name, path))

    def open(self, name: ObjectName) -> BinaryIO:
        """Open an object for reading. What breaks off while it is read is not waited for: half of it is used up."""
        return self._call(partial(self._store.open, name))

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        """Return what is known of an object."""
        return self._call(partial(self._store.stat, name))

    def copy(self, source: ObjectName, target: ObjectName) -> None:
        """Copy within the store."""
        self._call(partial(self._store.copy, source, target))

    def remove(self, name: ObjectName) -> None:
        """Remove an object."""
        self._call(partial(self._store.remove, name))

    def room(self) -> Room | None:
        """Return how much room there is."""
        return self._call(self._store.room)

    def presigned_put(self, name: ObjectName, *, seconds: int) -> str | None:
        """Return a URL at which a client may put the object."""
        return self._call(partial(self._store.presigned_put, name, seconds=seconds))

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield what is listed, once all of it was read: a listing that breaks off begins again.

        So it is held in memory, which is for the prefix of a job and not for a whole bucket.
        """
        yield from self._call(lambda: [*self._store.list(bucket, prefix)])
