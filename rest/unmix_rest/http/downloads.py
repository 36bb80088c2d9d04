"""Files of jobs as downloads: whole or a range of them, with an `ETag`, never held in memory.

A file goes out as fast as its client takes it, where the request may keep its thread. Else what the client does not
take waits on the disk, if there is room for all of it.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from threading import BoundedSemaphore
from typing import Any, BinaryIO, Final
from urllib.parse import quote

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from unmix.errors import InputError, NotFoundError, UnmixError
from unmix.outcome import StemFile
from unmix_rest.http.lanes import HAS_ROOM, MAY_STAY, WAIT_TO_SEND

#: What may wait to be sent when more of a file is read. It is memory of each client that does not read, and the kernel
#: has a buffer of its own.
MOST_BACKLOG_BYTES: Final = 128 * 1024

_CHUNK_BYTES: Final = 64 * 1024
#: Threads that write a piece at the same time. Each of a hundred would get the interpreter in turn, and whoever asks
#: something short would wait for them all.
_COPYING: Final = BoundedSemaphore(4)
#: Digits of a file's sha256 that make its URL its own.
_DIGITS: Final = 16


def download(stream: BinaryIO, file: StemFile, *, media_type: str, name: str) -> Response:
    """Answer with what `stream` has, which is closed with the answer; a browser would save it as `name`.

    `name` has nothing in it that a file's name cannot have: see `unmix.names.file_name`.

    Raises:
        NotFoundError: the URL is a `lasting_url` of another file.
        InputError: the client wants another file only (`precondition_failed`).
        UnmixError: there is no room for what the client does not take at once (`too_many_downloads`).
    """
    if request.args.get("sha256", _digits(file)) != _digits(file):
        stream.close()
        raise NotFoundError("what this URL meant was replaced")
    response = Response(FileWrapper(stream, _CHUNK_BYTES), mimetype=media_type, direct_passthrough=True)
    response.content_length = file.size_bytes
    response.set_etag(file.sha256)
    response.headers["Content-Disposition"] = attachment(name)
    if "sha256" in request.args:
        response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=file.size_bytes)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:
        response.close()
        raise InputError("this is not the file that If-Match names", code="precondition_failed")
    if response.status_code != HTTPStatus.NOT_MODIFIED and request.method != "HEAD":
        _make_room(response)
    return response


def paced(pieces: Iterable[bytes], wait_to_send: Callable[[int], None]) -> Iterator[bytes]:
    """Yield what a client can take; whoever goes on with it has written the piece before."""
    for piece in pieces:  # read before a turn is taken: a store may be slow
        wait_to_send(MOST_BACKLOG_BYTES)
        with _COPYING:
            yield piece


def _make_room(response: Response) -> None:
    """Have the body go out as fast as the client takes it, or make sure that all of it can wait."""
    wait_to_send = request.environ.get(WAIT_TO_SEND)
    if wait_to_send is None:  # another server, which has its own ways
        return
    if request.environ.get(MAY_STAY):
        body: Any = response.response
        response.response = paced(body, wait_to_send)
        response.call_on_close(body.close)
    elif not request.environ[HAS_ROOM](response.content_length or 0):
        response.close()
        raise UnmixError("as many download as there is room for", code="too_many_downloads")


def lasting_url(path: str, file: StemFile) -> str:
    """Return a URL of `path` that never means another file, so that whoever has this one need not ask again."""
    return f"{path}?sha256={_digits(file)}"


def attachment(name: str) -> str:
    """Return the header that has a browser save an answer as `name`, any of its characters (RFC 6266)."""
    if name.isascii():
        return f'attachment; filename="{name}"'
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    for_old_clients = re.sub(r'["/\\]', "_", plain).strip(" -")  # of characters that were wide variants of these
    return f"attachment; filename=\"{for_old_clients}\"; filename*=UTF-8''{quote(name, safe='')}"


def _digits(file: StemFile) -> str:
    return file.sha256[:_DIGITS]
