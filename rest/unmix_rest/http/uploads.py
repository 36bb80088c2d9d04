"""Uploads: a request's body becomes a song in a temporary file, hashed as it streams, and the fields beside it.

Both forms of the contract are read here: JSON with the song in base64 under `mp3`, and multipart forms. Memory stays
constant whatever the size. What the fields mean is for `unmix_rest.routes.separate` to say.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from flask import Request
from werkzeug.formparser import FormDataParser

from unmix.errors import InputError
from unmix_rest.http.strict_json import MAX_REST_BYTES, JsonWithSong, parse_object

CHUNK_BYTES: Final = 64 * 1024
MAX_FORM_FIELDS: Final = 32
#: The file field of a form; `mp3` is what older clients call it.
FILE_FIELDS: Final = ("file", "mp3")

#: With these a body that is no JSON is broken JSON; with others it is something else.
_JSON_TYPES: Final = ("", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Upload:
    """A song that was received whole, and what was said with it."""

    path: Path  # of a temporary file that ends with the request
    song_hash: str
    size_bytes: int
    fields: Mapping[str, Any]
    is_form: bool


def body_limit_bytes(max_song_bytes: int) -> int:
    """Return how long a body may be: the song in base64 with line breaks, and some more for what is beside it."""
    return max_song_bytes * 3 // 2 + 4 * MAX_REST_BYTES


@contextmanager
def receive(request: Request, *, max_song_bytes: int) -> Iterator[Upload]:
    """Read the body of `request` to its end; the song's file is gone when the context is left.

    Raises:
        InputError: the body holds no song in one of the two forms, or too large a one.
    """
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise InputError("the body has to be sent as it is, without a content encoding", code="unsupported_encoding")
    with tempfile.NamedTemporaryFile(prefix="unmix-upload-") as file:
        song = _SongFile(file, max_song_bytes)
        is_form = request.mimetype == "multipart/form-data"
        fields = _read_form(request, song) if is_form else _read_json(request, song)
        song.flush()
        if song.size_bytes == 0:
            raise InputError("the song is empty", code="empty_audio")
        yield Upload(song.path, song.sha256.hexdigest(), song.size_bytes, fields, is_form)


class _SongFile:
    """A temporary file that hashes and counts what is written to it."""

    def __init__(self, file: "tempfile._TemporaryFileWrapper[bytes]", max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self.path = Path(file.name)
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        self.size_bytes += len(data)
        if self.size_bytes > self._max_bytes:
            raise InputError(f"the song is larger than {self._max_bytes >> 20} MiB", code="payload_too_large")
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def seek(self, offset: int) -> int:
        """Do what the form parser asks of a part's file at its end; nobody reads here."""
        return self._file.seek(offset)


def _read_form(request: Request, song: _SongFile) -> dict[str, Any]:
    parts = 0

    def open_part(*_: object, **__: object) -> IO[bytes]:
        nonlocal parts
        parts += 1
        if parts > 1:
            raise InputError("the form has more than one file", code="invalid_field")
        return cast(IO[bytes], song)

    parser = FormDataParser(
        stream_factory=open_part,
        max_form_memory_size=2 * CHUNK_BYTES + MAX_REST_BYTES,  # the parser counts what it has read ahead
        max_form_parts=MAX_FORM_FIELDS,
        silent=False,
    )
    try:
        _, form, files = parser.parse(
            request.stream, request.mimetype, request.content_length, dict(request.mimetype_params)
        )
    except ValueError as error:
        raise InputError("the multipart form is broken or incomplete", code="incomplete_body") from error
    if not any(name in files for name in FILE_FIELDS):
        raise InputError("the form has no file field `file`", code="missing_field")
    if any(len(values) > 1 for _, values in form.lists()):
        raise InputError("a field stands twice in the form", code="duplicate_key")
    if sum(len(value) for value in form.values()) > MAX_REST_BYTES:
        raise InputError("the fields beside the song are too large", code="payload_too_large")
    fields: dict[str, Any] = {name: value for name, value in form.items() if value}
    if "callback" in fields:
        fields["callback"] = parse_object(fields["callback"].encode())
    return fields


def _read_json(request: Request, song: _SongFile) -> dict[str, Any]:
    try:
        stream = request.stream
        chunk = stream.read(CHUNK_BYTES).lstrip(b" \t\r\n")
        if not chunk.startswith(b"{"):  # no object: whatever it is, it is not worth reading on
            return parse_object(chunk)
        body = JsonWithSong("mp3", song.write)
        while chunk:
            body.feed(chunk)
            chunk = stream.read(CHUNK_BYTES)
        return body.finish()
    except InputError as error:
        is_json = request.mimetype in _JSON_TYPES or request.mimetype.endswith("+json")
        if error.code == "invalid_json" and not is_json:
            raise InputError("the body is neither JSON nor a multipart form", code="unsupported_media_type") from error
        raise
