"""The object store: the ledger of Track-Unmix, as one narrow protocol.

Two homes implement it: `unmix.store.s3` (any S3 store) and `unmix.store.file` (a folder, the embedded default). Songs,
requests, outcomes and stems live here; `unmix.ledger.ledger` gives the documents their meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from unmix.names import ObjectName


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows of an object without reading it. `etag` changes whenever the bytes do."""

    name: ObjectName
    size_bytes: int
    etag: str
    modified_at: float  # seconds since the epoch, by the store's clock


@dataclass(frozen=True, slots=True)
class Room:
    """The room on a disk."""

    free_bytes: int
    size_bytes: int


class ObjectStore(Protocol):
    """What Track-Unmix asks of a store. Every method raises `StoreError` when the store is away or refuses."""

    #: Whether `put_if` is atomic here; decided by a probe in `prepare`, never assumed.
    conditional_puts: bool

    def prepare(self) -> None:
        """Make the buckets `queue` and `output` if they are missing, and find out what the store can do."""

    def put(self, name: ObjectName, data: bytes) -> None:
        """Put a small object whole; it replaces what was there, and nobody ever sees half of it."""

    def put_file(self, name: ObjectName, path: Path) -> None:
        """Put the file at `path`, of any size, in the same all-or-nothing way."""

    def put_stream(self, name: ObjectName, stream: BinaryIO, size_bytes: int) -> None:
        """Put the `size_bytes` that `stream` has, in the same way; if reading it raises, nothing is put."""

    def put_if(self, name: ObjectName, data: bytes, *, etag: str | None) -> None:
        """Put only if the object still has `etag`; None: only if there is no such object.

        Raises:
            ObjectChangedError: somebody else was first. Nothing was written.
        """

    def get(self, name: ObjectName) -> tuple[bytes, str]:
        """Return a small object's bytes and etag, as one consistent pair.

        Raises:
            ObjectMissingError: there is none.
        """

    def get_file(self, name: ObjectName, path: Path) -> None:
        """Write an object of any size to `path`; on failure nothing is left there.

        Raises:
            ObjectMissingError: there is none.
            OSError: `path` cannot be written.
        """

    def open(self, name: ObjectName) -> BinaryIO:
        """Open an object for reading from its start, in constant memory; the caller closes it.

        Raises:
            ObjectMissingError: there is none.
        """

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        """Return what is known of an object, None if there is none."""

    def copy(self, source: ObjectName, target: ObjectName) -> None:
        """Copy within the store, replacing `target` as a whole.

        Raises:
            ObjectMissingError: there is no `source`.
        """

    def remove(self, name: ObjectName) -> None:
        """Remove an object; removing what is not there is no error."""

    def room(self) -> Room | None:
        """Return how much room there is; None where nobody can say, as S3 has no question for it."""

    def presigned_put(self, name: ObjectName, *, seconds: int) -> str | None:
        """Return a URL at which whoever has it may put the object, for so long; None if clients cannot reach the store.

        The URL is a secret.
        """

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects of `bucket` whose key begins with `prefix`, sorted by key (code points)."""
