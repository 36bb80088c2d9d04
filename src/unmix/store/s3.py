"""The object store on any S3 server, through the `minio` SDK; the only importer of that SDK.

It owns the translation of every failure into the error tree; `s3_http` owns time-outs and retries. It asks the
server once, in `prepare`, whether it honours conditional puts, because `put_if` keeps results from being mixed.
"""

import io
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final
from xml.etree import ElementTree

import structlog
from minio import Minio
from minio.commonconfig import CopySource
from minio.datatypes import Object
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, MaxRetryError

from unmix.errors import ObjectChangedError, ObjectMissingError, StoreError
from unmix.names import OUTPUT_BUCKET, QUEUE_BUCKET, ObjectName
from unmix.store.protocol import ObjectInfo, Room
from unmix.store.s3_http import Body, Connections
from unmix.store.shared import CHUNK_BYTES, check_bucket, check_object_name, whole_file

log = structlog.get_logger()


#: What servers say when there is no room, on their disks or by a quota, whatever the status.
_FULL: Final = frozenset(
    {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientCapacity", "StorageFull"}
)


class MinioStore:
    """An `ObjectStore` on the S3 server at `endpoint` (`host` or `host:port`).

    There the buckets' names begin with `bucket_prefix`: on public clouds all customers share them. Clients reach the
    same server at `public_url`, if at all.
    """

    conditional_puts: bool = False  # until `prepare` has found out

    def __init__(
        self,
        endpoint: str,
        *,
        access_key: str,
        secret_key: str,
        secure: bool,
        bucket_prefix: str = "",
        public_url: str = "",
    ) -> None:
        if "@" in endpoint:
            raise _unknown_store("the URL of an S3 store must not hold the keys; they are settings of their own")
        self._host = endpoint
        self._bucket_prefix = bucket_prefix
        self._log_in = partial(Minio, access_key=access_key or None, secret_key=secret_key, http_client=Connections())
        self._client = self._client_at(endpoint, secure=secure)
        self._public = _address_in(public_url) if public_url else None
        if self._public:
            self._client_at(*self._public)  # so that a wrong address is told at the start

    def prepare(self) -> None:
        """Make the buckets if they are missing, and find out whether conditional puts work here."""
        for bucket in (QUEUE_BUCKET, OUTPUT_BUCKET):
            self._make_bucket(bucket)
        self.conditional_puts = self._honours_conditions()
        if not self.conditional_puts:
            log.warning("the store ignores conditional puts", host=self._host)

    def put(self, name: ObjectName, data: bytes) -> None:
        """Put a small object whole."""
        self._put(name, io.BytesIO(data), len(data))

    def put_file(self, name: ObjectName, path: Path) -> None:
        """Put the file at `path`, of any size, in parts of 5 MiB."""
        with path.open("rb") as file:
            self._put(name, file, os.fstat(file.fileno()).st_size)

    def put_stream(self, name: ObjectName, stream: BinaryIO, size_bytes: int) -> None:
        """Put what `stream` has, in parts of 5 MiB."""
        self._put(name, stream, size_bytes)

    def put_if(self, name: ObjectName, data: bytes, *, etag: str | None) -> None:
        """Put only if the object still has `etag`; None: only if there is no such object.

        Where the server ignores conditions this looks and then puts, and two callers at once may both succeed.
        """
        if self.conditional_puts:
            self._put_on_condition(name, data, etag)
            return
        found = self.stat(name)
        if (found.etag if found else None) != etag:
            raise ObjectChangedError(f"{name} is not what it was")
        self.put(name, data)

    def get(self, name: ObjectName) -> tuple[bytes, str]:
        """Return a small object's bytes and etag, from one answer."""
        check_object_name(name)
        with self._errors(f"read {name}"):
            response = self._client.get_object(self._there(name.bucket), name.key)
            try:
                return response.read(), response.headers.get("etag", "").strip('"')
            finally:
                response.close()
                response.release_conn()

    def get_file(self, name: ObjectName, path: Path) -> None:
        """Write an object of any size to `path`."""
        with self.open(name) as source, whole_file(path) as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    def open(self, name: ObjectName) -> BinaryIO:
        """Open an object for reading from its start."""
        check_object_name(name)
        with self._errors(f"read {name}"):
            response = self._client.get_object(self._there(name.bucket), name.key)
        return io.BufferedReader(Body(response, partial(self._errors, f"read {name}")), CHUNK_BYTES)

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        """Return what is known of an object, None if there is none."""
        check_object_name(name)
        try:
            with self._errors(f"read {name}"):
                return _info(self._client.stat_object(self._there(name.bucket), name.key), name.bucket)
        except ObjectMissingError:
            return None

    def copy(self, source: ObjectName, target: ObjectName) -> None:
        """Let the server copy; the bytes do not come here."""
        check_object_name(source)
        check_object_name(target)
        with self._errors(f"copy {source}"):
            self._client.copy_object(
                self._there(target.bucket), target.key, CopySource(self._there(source.bucket), source.key)
            )

    def remove(self, name: ObjectName) -> None:
        """Remove an object."""
        check_object_name(name)
        with self._errors(f"remove {name}"):
            self._client.remove_object(self._there(name.bucket), name.key)

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects of `bucket` whose key begins with `prefix`, in the server's order, which is by key."""
        check_bucket(bucket)
        with self._errors(f"list {bucket}"):
            for found in self._client.list_objects(self._there(bucket), prefix=prefix, recursive=True):
                yield _info(found, bucket)

    def room(self) -> Room | None:
        """Return None: S3 has no question for it. A full server refuses what is put (`store_full`)."""
        return None

    def presigned_put(self, name: ObjectName, *, seconds: int) -> str | None:
        """Return a URL at which whoever has it may put the object; the signature covers the address in it."""
        check_object_name(name)
        if self._public is None:
            return None
        bucket = self._there(name.bucket)
        with self._errors(f"sign a put of {name}"):
            # Asked here, as the address for clients need not be reachable from where we are.
            region = self._client._get_region(bucket)
            client = self._client_at(*self._public, region=region)
            return client.presigned_put_object(bucket, name.key, timedelta(seconds=seconds))

    def _client_at(self, endpoint: str, secure: bool, region: str | None = None) -> Minio:
        try:
            return self._log_in(endpoint, secure=secure, region=region)
        except ValueError as error:
            raise _unknown_store(f"{endpoint!r} names no S3 server: {error}") from error

    def _there(self, bucket: str) -> str:
        """Return what the server calls one of our buckets."""
        return self._bucket_prefix + bucket

    def _make_bucket(self, bucket: str) -> None:
        if self._has_bucket(bucket):
            return
        try:
            with self._errors(f"make the bucket {self._there(bucket)}"):
                self._client.make_bucket(self._there(bucket))
        except StoreError:
            if not self._has_bucket(bucket):  # another process may have been faster
                raise

    def _has_bucket(self, bucket: str) -> bool:
        try:
            with self._errors(f"look for the bucket {self._there(bucket)}"):
                return self._client.bucket_exists(self._there(bucket))
        except StoreError as error:
            if error.code == "bucket_missing":
                return False
            raise

    def _honours_conditions(self) -> bool:
        """Try on an object of our own whether unmet conditions are refused and met ones are not."""
        probe = ObjectName(QUEUE_BUCKET, f".probe/{secrets.token_hex(8)}")
        try:
            self._put_on_condition(probe, b"first", None)
            for unmet in (None, "0" * 32):
                with suppress(ObjectChangedError):
                    self._put_on_condition(probe, b"not to be written", unmet)
                    return False
            _, etag = self.get(probe)
            self._put_on_condition(probe, b"second", etag)
            return True
        except StoreError as error:
            if error.code in ("object_changed", "store_refused"):  # some servers refuse the headers as such
                return False
            raise
        finally:
            self.remove(probe)

    def _put(self, name: ObjectName, stream: BinaryIO, size_bytes: int) -> None:
        check_object_name(name)
        with self._errors(f"write {name}"):
            # One part at a time: three at once, the SDK's default, would cost 15 MiB for each upload under way.
            result = self._client.put_object(
                self._there(name.bucket), name.key, stream, size_bytes, num_parallel_uploads=1
            )
        if not result.etag:
            # S3 may answer 200 to the end of an upload in parts and tell of an error in the body; the SDK overlooks it.
            raise StoreError(f"the object store at {self._host} did not complete the upload of {name}")

    def _put_on_condition(self, name: ObjectName, data: bytes, etag: str | None) -> None:
        check_object_name(name)
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": f'"{etag}"'}
        try:
            with self._errors(f"write {name}"):
                # The SDK's put_object cannot send these headers. What it calls itself can, signed and with errors
                # parsed; a presigned URL, the public way, would carry a signature into logs and tracebacks.
                self._client._execute("PUT", self._there(name.bucket), name.key, body=data, headers={**condition})
        except (ObjectChangedError, ObjectMissingError) as error:
            # If the answer to our first try was lost, it is our own object that refuses the second.
            if _was_sent_again(error) and self._holds(name, data):
                return
            raise ObjectChangedError(f"{name} is not what it was") from error

    def _holds(self, name: ObjectName, data: bytes) -> bool:
        try:
            return self.get(name)[0] == data
        except ObjectMissingError:
            return False

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Translate whatever the SDK and its transport raise; ValueError and ParseError are answers beyond reading."""
        try:
            yield
        except (MinioException, HTTPError, ValueError, ElementTree.ParseError) as error:
            raise self._translate(error, doing) from error

    def _translate(self, error: Exception, doing: str) -> StoreError:
        status, code = _answer_in(error)
        told = f"HTTP {status} {code}".rstrip() if status else _reason(error)
        text = f"the object store at {self._host} cannot {doing}: {told}"
        if code == "NoSuchBucket":
            return StoreError(text, code="bucket_missing")
        if status == 404:
            return ObjectMissingError(text)
        if status == 412 or code == "ConditionalRequestConflict":
            return ObjectChangedError(text)
        if status == 507 or code in _FULL:
            return StoreError(text, code="store_full")
        if status in (401, 403):
            text += "; check the store's keys and what they are allowed"
            return StoreError(text, code="store_denied", retryable=False)
        if status is not None and (status < 500 or status == 501):
            return StoreError(text, code="store_refused")
        return StoreError(text)


def _address_in(url: str) -> tuple[str, bool]:
    """Return the host and port in the URL that clients reach the store at, and whether they do so by TLS."""
    match = re.fullmatch(r"(https?)://([^/@?#\s]+)/?", url)
    if match is None:
        raise _unknown_store(f"{url!r} is no address of an S3 store for clients: use https://host or https://host:port")
    return match[2], match[1] == "https"


def _answer_in(error: Exception) -> tuple[int | None, str]:
    """Return the HTTP status and the S3 code that an error of the SDK carries, None and '' if there was no answer."""
    if isinstance(error, S3Error):
        return error.response.status, error.code or ""
    if isinstance(error, ServerError):
        return error.status_code, ""
    if isinstance(error, InvalidResponseError):
        # The SDK reads errors only from `application/xml`; rclone says `text/xml`, proxies answer in HTML.
        code = re.search(r"<Code>(\w+)</Code>", error._body or "")
        return error._code, code[1] if code else ""
    return None, ""


def _reason(error: Exception) -> str:
    """Return what went wrong on the way; urllib3 tells it last, after objects of its own."""
    cause = error.reason or error if isinstance(error, MaxRetryError) else error
    return str(cause.args[-1]) if cause.args else type(cause).__name__


def _was_sent_again(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, S3Error) and bool(cause.response.retries and cause.response.retries.history)


def _unknown_store(why: str) -> StoreError:
    return StoreError(why, code="unknown_store", retryable=False)


def _info(found: Object, bucket: str) -> ObjectInfo:
    name = ObjectName(bucket, found.object_name or "")
    modified_at = found.last_modified.timestamp() if found.last_modified else 0.0
    return ObjectInfo(name, found.size or 0, found.etag or "", modified_at)
