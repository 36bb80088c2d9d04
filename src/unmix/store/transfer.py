"""Brings an object from one store into another, as it passes: in constant memory, checked on its way.

What to bring, and in which order, `unmix.ledger.copying` knows.
"""

import hashlib
import io
from typing import Any, BinaryIO, Final

from unmix.errors import ObjectMissingError, StoreError
from unmix.names import ObjectName
from unmix.store.protocol import ObjectStore
from unmix.store.shared import CHUNK_BYTES

#: The code of the error that says that an object is not what it should be.
DAMAGED: Final = "object_damaged"


def transfer(name: ObjectName, source: ObjectStore, target: ObjectStore, *, sha256: str | None = None) -> int | None:
    """Copy an object and return its size; None if there is none any more.

    Raises:
        StoreError: one of the stores is away or refuses; or the bytes have another SHA-256 than `sha256`, or do not
            come to their end (`object_damaged`). Nothing was put then.
    """
    found = source.stat(name)
    if found is None:
        return None
    try:
        with source.open(name) as body:
            passing = io.BufferedReader(_Passing(body, name, found.size_bytes, sha256), CHUNK_BYTES)
            target.put_stream(name, passing, found.size_bytes)
    except ObjectMissingError:
        return None
    arrived = target.stat(name)
    if arrived is None or arrived.size_bytes != found.size_bytes:
        raise StoreError(f"{name} did not arrive as the {found.size_bytes} bytes that it has")
    return found.size_bytes


class _Passing(io.RawIOBase):
    """The bytes of an object, the last of which are handed out only if all are right."""

    def __init__(self, body: BinaryIO, name: ObjectName, size_bytes: int, sha256: str | None) -> None:
        self._body = body
        self._name = name
        self._left = size_bytes
        self._sha256 = sha256
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        """Tell that this can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as bytes are there; 0 is the end."""
        data = self._body.read(min(len(buffer), self._left))
        if self._left and not data:
            raise self._damaged(f"it ends {self._left} bytes too early")
        self._left -= len(data)
        self._digest.update(data)
        if data and not self._left and self._sha256 not in (None, self._digest.hexdigest()):
            raise self._damaged(f"its SHA-256 is not {self._sha256}")
        buffer[: len(data)] = data
        return len(data)

    def _damaged(self, why: str) -> StoreError:
        return StoreError(f"{self._name} is damaged: {why}", code=DAMAGED, retryable=False)
