"""Pieces: the body of a `PUT` and what its `Content-Range` says of it. Without one it is the whole song at once.

The server hands over whole bodies only, so that nothing of a piece counts that broke off. What becomes of a piece is
for `unmix.ledger.uploads` to say.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flask import Request

from unmix.errors import InputError
from unmix_rest.http.clients import client
from unmix_rest.http.temporary import Temporary
from unmix_rest.http.uploads import CHUNK_BYTES, refuse_encoding, too_large

#: What clients are advised to send at once: little is lost when it breaks off, and few requests are made.
ADVISED_BYTES: Final = 8 << 20

_RANGE: Final = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece that was received whole."""

    path: Path  # of a temporary file that ends with the request
    start: int  # the byte of the song that it begins with
    total: int  # bytes of the whole song


@contextmanager
def receive_piece(request: Request, temporary: Temporary, *, max_song_bytes: int) -> Iterator[Piece]:
    """Read the body of `request` to its end; the file is gone when the context is left.

    Raises:
        InputError: the body is empty, too large, or not what its `Content-Range` says.
        UnmixError: there is no room for it now (`no_room`).
    """
    refuse_encoding(request)
    said = _range_in(request)
    if said and said[2] > max_song_bytes:
        raise too_large(max_song_bytes)
    with temporary.file(client(), min(request.content_length or 0, max_song_bytes)) as file:
        while chunk := request.stream.read(CHUNK_BYTES):
            if file.size_bytes + len(chunk) > max_song_bytes:
                raise too_large(max_song_bytes)
            file.write(chunk)
        size_bytes = file.size_bytes
        if size_bytes == 0:
            raise InputError("there is nothing in this piece", code="empty_audio")
        start, end, total = said or (0, size_bytes, size_bytes)
        if end - start != size_bytes:
            text = f"the body has {size_bytes} bytes, its Content-Range {end - start}"
            raise InputError(text, code="bad_content_range")
        yield Piece(file.path, start, total)


def _range_in(request: Request) -> tuple[int, int, int] | None:
    """Return where the body begins and ends in the song, and how long that is; None if nothing is said."""
    said = request.headers.get("Content-Range")
    if said is None:
        return None
    match = _RANGE.fullmatch(said.strip())
    start, last, total = map(int, match.groups()) if match else (0, 0, 0)
    if not start <= last < total:
        text = "a Content-Range has to be like bytes 0-8388607/20000000: the first byte, the last, and how many in all"
        raise InputError(text, code="bad_content_range")
    return start, last + 1, total
