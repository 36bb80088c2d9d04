"""Opens the object store that a URL names. The S3 client is loaded only where it is used."""

from pathlib import Path

from unmix.errors import StoreError
from unmix.store.protocol import ObjectStore


def open_store(
    url: str, *, access_key: str, secret_key: str, bucket_prefix: str = "", public_url: str = ""
) -> ObjectStore:
    """Open the store that `url` names: `file:///path`, `s3://host:port` or `s3+http://host:port` (plain HTTP).

    The keys, the prefix of the buckets' names and the address that clients reach are for S3 only. Nothing is contacted
    before `prepare`.

    Raises:
        StoreError: the URL names no store that we know (`unknown_store`).
    """
    scheme, separator, rest = url.partition("://")
    if separator and rest:
        if scheme == "file":
            from unmix.store.file import FileStore

            return FileStore(Path(rest))
        if scheme in ("s3", "s3+http"):
            from unmix.store.s3 import MinioStore

            return MinioStore(
                rest.rstrip("/"),
                access_key=access_key,
                secret_key=secret_key,
                secure=scheme == "s3",
                bucket_prefix=bucket_prefix,
                public_url=public_url,
            )
    raise StoreError(
        f"no object store is known by {url!r}: use file:///path, s3://host:port or s3+http://host:port",
        code="unknown_store",
        retryable=False,
    )
