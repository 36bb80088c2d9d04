"""What the two homes of the object store share: which names they accept, and how a download ends.

Both homes refuse the same names, so that what works in the embedded store works on S3 too. Nothing here talks to
a store; `unmix.store.file` and `unmix.store.s3` do.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from unmix.errors import StoreError
from unmix.names import ObjectName

#: Bytes moved at once between a file and a store.
CHUNK_BYTES: Final = 1 << 20
#: The longest key that S3 takes, in UTF-8.
MAX_KEY_BYTES: Final = 1024
#: The longest part between two slashes that common file systems take, in UTF-8.
MAX_SEGMENT_BYTES: Final = 255

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
#: XML, which S3 lists objects in, cannot carry these; NUL ends a path.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def check_bucket(bucket: str) -> None:
    """Refuse what S3 would not take as a bucket's name, path tricks included.

    Raises:
        StoreError: the name is refused (`bad_object_name`).
    """
    if not _BUCKET.fullmatch(bucket):
        raise _bad_name(bucket, "that is no bucket name")


def check_object_name(name: ObjectName) -> None:
    """Refuse a name that one of the homes could not hold, or that would lead out of its bucket.

    Raises:
        StoreError: the name is refused (`bad_object_name`).
    """
    check_bucket(name.bucket)
    try:
        key_bytes = len(name.key.encode())
        segments = [segment.encode() for segment in name.key.split("/")]
    except UnicodeEncodeError as error:
        raise _bad_name(str(name), "it is no valid Unicode") from error
    if any(segment in (b"", b".", b"..") for segment in segments):
        raise _bad_name(str(name), "a part between slashes is empty, '.' or '..'")
    if _CONTROL.search(name.key):
        raise _bad_name(str(name), "it has a control character")
    if key_bytes > MAX_KEY_BYTES or max(map(len, segments)) > MAX_SEGMENT_BYTES:
        raise _bad_name(str(name), f"more than {MAX_KEY_BYTES} bytes, or {MAX_SEGMENT_BYTES} between slashes")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path` only if the block ends well.

    Raises:
        OSError: the file cannot be written, which is no fault of the store's.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _bad_name(name: str, why: str) -> StoreError:
    return StoreError(f"{name!r} cannot be the name of an object: {why}", code="bad_object_name", retryable=False)
