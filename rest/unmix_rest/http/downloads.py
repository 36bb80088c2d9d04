"""Files of jobs as downloads: whole or a range of them, with an `ETag`, never held in memory."""

import re
import unicodedata
from http import HTTPStatus
from typing import BinaryIO, Final
from urllib.parse import quote

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from unmix.errors import InputError, NotFoundError
from unmix.outcome import StemFile

_CHUNK_BYTES: Final = 64 * 1024
#: Digits of a file's sha256 that make its URL its own.
_DIGITS: Final = 16


def download(stream: BinaryIO, file: StemFile, *, media_type: str, name: str) -> Response:
    """Answer with what `stream` has, which is closed with the answer; a browser would save it as `name`.

    `name` has nothing in it that a file's name cannot have: see `unmix.names.file_name`.

    Raises:
        NotFoundError: the URL is a `lasting_url` of another file.
        InputError: the client wants another file only (`precondition_failed`).
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
    return response


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
