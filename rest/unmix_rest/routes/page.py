"""The page for people: `/` in a browser, `/ui`, and the files under `/static/` that it is made of.

Those are all files of the folder `static` with a type that is named here, read when the process starts: nothing else
can be asked for. What the page does is written there; it uses the same API as everybody.
"""

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from flask import Response, request

from unmix.errors import NotFoundError
from unmix_rest.routes.ops import hello
from unmix_rest.services import Services

#: Nothing from elsewhere, nothing inline, nobody may frame it. WebAssembly, which changes the speed of a song but not
#: its pitch, is allowed by a word of its own, by which no text becomes a script.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
TYPES: Final = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "png": "image/png",
    "svg": "image/svg+xml",
    "wasm": "application/wasm",
    "webmanifest": "application/manifest+json",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str
    gzipped: bytes


def home(services: Services) -> Response:
    """Hand the page to browsers; whoever does not ask for HTML by name, as load balancers, gets the hello."""
    accepted = request.accept_mimetypes
    wants_page = any(media_type == "text/html" and quality > 0 for media_type, quality in accepted)
    response = _answer(FILES["index.html"]) if wants_page else hello(services)
    response.vary.add("Accept")
    return response


def ui(services: Services) -> Response:
    """Hand the page out, whoever asks."""
    return _answer(FILES["index.html"])


def static_file(services: Services, file: str) -> Response:
    """Hand out a file that the page is made of."""
    if file not in FILES:
        raise NotFoundError("the page has no such file")
    return _answer(FILES[file])


def _answer(file: _File) -> Response:
    """Answer with a file; a client that has it already is told so, and asks each time: a new version counts at once."""
    is_gzipped = request.accept_encodings.quality("gzip") > 0
    etag = f"{file.etag}-gzip" if is_gzipped else file.etag
    if request.if_none_match.contains(etag):
        response = Response(status=HTTPStatus.NOT_MODIFIED)
    else:
        response = Response(file.gzipped if is_gzipped else file.content, mimetype=file.media_type)
        if is_gzipped:
            response.content_encoding = "gzip"
    response.set_etag(etag)
    response.vary.add("Accept-Encoding")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _read(folder: Traversable, before: str = "") -> Iterator[tuple[str, _File]]:
    """Yield every file below a folder that may be asked for, by its path."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{before}{entry.name}/")
        elif media_type := TYPES.get(entry.name.rpartition(".")[2]):
            content = entry.read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            yield before + entry.name, _File(content, media_type, etag, gzip.compress(content, mtime=0))


FILES: Final = dict(_read(files("unmix_rest").joinpath("static")))
