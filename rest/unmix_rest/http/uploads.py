"""Uploads: a request's body becomes a song in a temporary file, hashed as it streams, and the fields beside it.

Three forms are read here: multipart forms, JSON with the song in base64 or word of where it is, and the song as it is.
Memory stays constant whatever the size. What the fields mean is for `unmix_rest.routes.separate` to say.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast
from urllib.parse import unquote

from flask import Request
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from unmix.errors import InputError
from unmix.ledger.uploads import Progress, Uploads
from unmix.strict_json import parse_object
from unmix_rest.http.clients import client
from unmix_rest.http.strict_json import MAX_REST_BYTES, JsonWithSong
from unmix_rest.http.temporary import Temporary, TemporaryFile

CHUNK_BYTES: Final = 64 * 1024
MAX_FORM_FIELDS: Final = 32
#: Longest name of a song; what a client calls its file is cut off there.
MAX_NAME_CHARACTERS: Final = 1000
#: The file field of a form; `mp3` is what older clients call it.
FILE_FIELDS: Final = ("file", "mp3")
#: The fields of JSON that there may be instead of a song: the id of an upload that has it, and where it can be fetched.
UPLOAD_FIELD: Final = "upload"
URL_FIELD: Final = "url"

_SPACE: Final = b" \t\r\n"
#: With these a body that is no JSON is broken JSON; with others it is something else.
_JSON_TYPES: Final = ("", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Upload:
    """A song that was received whole, or where it can be fetched, and what was said with it."""

    path: Path  # of a temporary file that ends with the request; empty if there is a `url`
    sha256: str
    size_bytes: int
    fields: Mapping[str, Any]
    is_form: bool
    file_name: str | None = None  # as the client has it, without folders
    sent_before: Progress | None = None  # if the song was not in this request
    url: str | None = None  # as the client gave it


def body_limit_bytes(max_song_bytes: int) -> int:
    """Return how long a body may be: the song in base64 with line breaks, and some more for what is beside it."""
    return max_song_bytes * 3 // 2 + 4 * MAX_REST_BYTES


def small_object(request: Request, *, most_bytes: int = MAX_REST_BYTES) -> dict[str, Any]:
    """Return the JSON object in a body that brings no song; nothing is in it if there is no body.

    Raises:
        InputError: the body is larger than such an object (`payload_too_large`), is compressed
            (`unsupported_encoding`), or no JSON object (the codes of `parse_object`).
    """
    refuse_encoding(request)
    body = request.stream.read(most_bytes + 1)
    if len(body) > most_bytes:
        raise InputError("the JSON is too large", code="payload_too_large")
    return parse_object(body) if body else {}


def refuse_encoding(request: Request) -> None:
    """Raise `InputError` for a body that is compressed or the like."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise InputError("the body has to be sent as it is, without a content encoding", code="unsupported_encoding")


def too_large(max_song_bytes: int) -> InputError:
    """Return what a song is refused with that is larger than songs may be."""
    text = f"the song is larger than the {max_song_bytes >> 20} MiB that are taken here (UNMIX_MAX_UPLOAD_MB)"
    return InputError(f"{text}; as flac it is about half as large as wav", code="payload_too_large")


@contextmanager
def receive(
    request: Request,
    temporary: Temporary,
    *,
    max_song_bytes: int,
    song_field: str,
    takes_raw: bool = False,
    uploads: Uploads | None = None,
    checked_upload: Callable[[str], str] = str,
) -> Iterator[Upload]:
    """Read the body of `request` to its end; the song's file is gone when the context is left.

    JSON has the song under `song_field`; where there are `uploads`, it may have a URL instead, or the id of one, which
    `checked_upload` refuses if it is not the client's. With `takes_raw`, what is neither a form nor JSON is the song.

    Raises:
        InputError: the body holds no song in one of the forms, or too large a one.
        NotFoundError: there is no such upload.
        UnmixError: there is no room for the song now (`no_room`).
    """
    refuse_encoding(request)
    with temporary.file(client(), min(request.content_length or 0, max_song_bytes)) as file:
        song = _SongFile(file, max_song_bytes)
        is_form = request.mimetype == "multipart/form-data"
        fields: dict[str, Any] = {}
        sent_before = url = None
        if is_form:
            fields, file_name = _read_form(request, song)
        else:
            file_name = _disposition_name(request)
            begin = request.stream.read(CHUNK_BYTES)
            if takes_raw and not _is_json(request, begin):
                song.write(begin)
                while chunk := request.stream.read(CHUNK_BYTES):
                    song.write(chunk)
            else:
                instead = (UPLOAD_FIELD, URL_FIELD) if uploads else ()
                fields = _read_json(request, begin, song, song_field, instead=instead)
                upload_id, url = (fields.pop(name, None) for name in instead) if uploads else (None, None)
                if uploads and upload_id is not None:
                    sent_before = uploads.complete(checked_upload(upload_id))
                    for data in uploads.read(sent_before):
                        song.write(data)
        if song.size_bytes == 0 and url is None:
            raise InputError("the song is empty", code="empty_audio")
        if url is not None:
            file_name = _name_in(url)
        sha256 = song.sha256.hexdigest()
        yield Upload(song.path, sha256, song.size_bytes, fields, is_form, _base(file_name), sent_before, url)


class _SongFile:
    """A temporary file that hashes and counts what is written to it."""

    def __init__(self, file: TemporaryFile, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self.path = file.path
        self.sha256 = hashlib.sha256()

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def write(self, data: bytes) -> int:
        if self.size_bytes + len(data) > self._max_bytes:
            raise too_large(self._max_bytes)
        self.sha256.update(data)
        self._file.write(data)
        return len(data)

    def seek(self, offset: int) -> int:
        """Do nothing: the form parser asks for it at the end of a part's file, and nobody reads here."""
        return offset


def _read_form(request: Request, song: _SongFile) -> tuple[dict[str, Any], str | None]:
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
    except UnicodeDecodeError as error:
        text = "a name in the form is not UTF-8: rename the file, or send another name with it"
        raise InputError(text, code="invalid_field") from error
    except ValueError as error:
        raise InputError("the multipart form is broken or incomplete", code="incomplete_body") from error
    file = next((files[name] for name in FILE_FIELDS if name in files), None)
    if file is None:
        text = "the form has no file field `file`; other ways to give a song need a body of JSON"
        raise InputError(text, code="missing_field")
    if any(len(values) > 1 for _, values in form.lists()):
        raise InputError("a field stands twice in the form", code="duplicate_key")
    if sum(len(value) for value in form.values()) > MAX_REST_BYTES:
        raise InputError("the fields beside the song are too large", code="payload_too_large")
    fields: dict[str, Any] = {name: value for name, value in form.items() if value}
    return read_spelled(fields), file.filename


def read_spelled(fields: dict[str, Any]) -> dict[str, Any]:
    """Return `fields` with the object read that forms and URLs can only spell.

    Raises:
        InputError: it is none (the codes of `parse_object`).
    """
    if "callback" in fields:
        try:
            fields["callback"] = parse_object(fields["callback"].encode())
        except InputError as error:
            text = 'the field callback has to be JSON such as {"url": "https://example.com/done"}'
            raise InputError(text, code=error.code) from error
    return fields


def _is_json(request: Request, begin: bytes) -> bool:
    """Tell whether a body is meant to be JSON; many clients send it as something else, but no song begins like it."""
    return request.is_json or begin.lstrip(_SPACE).startswith(b"{")


def _disposition_name(request: Request) -> str | None:
    """Return the file name that comes with a body which is the song itself."""
    _, options = parse_options_header(request.headers.get("Content-Disposition"))
    name = options.get("filename")
    try:
        return name and name.encode("latin-1").decode()  # headers are read as latin-1, most clients write UTF-8
    except UnicodeError:
        return name


def _base(file_name: str | None) -> str | None:
    """Return the last part of a path of any system; browsers send those of files in chosen folders."""
    return re.split(r"[/\\]", file_name or "")[-1][:MAX_NAME_CHARACTERS] or None


def _name_in(url: str) -> str:
    """Return what the path of a URL is, as a file name; its query is nobody's business."""
    return unquote(re.split(r"[?#]", url)[0].partition("://")[2].partition("/")[2])


def _read_json(
    request: Request, begin: bytes, song: _SongFile, song_field: str, *, instead: Sequence[str]
) -> dict[str, Any]:
    try:
        stream = request.stream
        chunk = begin.lstrip(_SPACE)
        if not chunk.startswith(b"{"):  # no object: whatever it is, it is not worth reading on
            return parse_object(chunk)
        body = JsonWithSong(song_field, song.write, instead=instead)
        while chunk:
            body.feed(chunk)
            chunk = stream.read(CHUNK_BYTES)
        return body.finish()
    except InputError as error:
        is_json = request.mimetype in _JSON_TYPES or request.mimetype.endswith("+json")
        if error.code == "invalid_json" and not is_json:
            raise InputError("the body is neither JSON nor a multipart form", code="unsupported_media_type") from error
        raise
