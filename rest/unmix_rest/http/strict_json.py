"""JSON with a song inside it, read strictly and without ever holding the song in memory.

Base64 in JSON costs about five times the song when it is parsed in one go. `JsonWithSong` takes the text chunk by
chunk, sends the one long string onwards as it comes, and keeps the rest, which is small and then parsed as a whole by
`unmix.strict_json`: whatever the scanner believed, only what that accepts counts.
"""

import binascii
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from unmix.errors import InputError
from unmix.strict_json import parse_object

#: Longest JSON beside the song.
MAX_REST_BYTES: Final = 64 * 1024

_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_DATA_URL: Final = re.compile(r"data:[^,]{0,100};base64,")
_LONGEST_DATA_URL: Final = 120
_LONGEST_ESCAPE: Final = len(r"\u0000")


class JsonWithSong:
    """Reads a JSON object chunk by chunk; the string under `key` is decoded from base64 and given to `write`.

    The object may have one string out of `instead` in its place.

    Raises:
        InputError: from `feed` and `finish`, as soon as something is wrong: the codes of `parse_object`, and
            `missing_field`, `invalid_field`, `invalid_base64`, `payload_too_large` (the rest, not the song).
    """

    def __init__(self, key: str, write: Callable[[bytes], object], *, instead: Sequence[str] = ()) -> None:
        self._key = key
        self._instead = instead
        self._song = _Base64(write)
        self._rest = bytearray()
        self._unread = b""
        self._in_string = False
        self._in_song = False
        self._had_song = False
        self._depth = 0
        self._last_string_at = 0  # where in `rest` the contents of the last string begin
        self._between_from = 0  # where in `rest` the text after the last string begins

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        text = self._unread + chunk
        self._unread = b""
        at = 0
        while at < len(text):
            at = self._string(text, at) if self._in_string else self._structure(text, at)

    def finish(self) -> dict[str, Any]:
        """Return the object without the song, all of which was written."""
        fields = parse_object(bytes(self._rest) + self._unread)
        song = fields.pop(self._key, None)
        ways = " or ".join((self._key, *self._instead))
        instead = [name for name in self._instead if fields.get(name) is not None]
        if instead:
            if song is not None or len(instead) > 1 or not isinstance(fields[instead[0]], str):
                raise InputError(f"give the song in one way, by a string: {ways}", code="invalid_field")
            return fields
        if song is None:
            raise InputError(f"the field {ways} is missing", code="missing_field")
        if not isinstance(song, str):
            raise InputError(f"the field {self._key} has to be a string", code="invalid_field")
        if not self._had_song:  # the name was spelt with an escape
            self._song.feed(json.dumps(song)[1:-1].encode())
        self._song.finish()
        return fields

    def _structure(self, text: bytes, at: int) -> int:
        """Pass over what is outside of strings, up to behind the next quote."""
        end = text.find(b'"', at)
        end = len(text) if end < 0 else end
        piece = text[at:end]
        self._keep(piece)
        self._depth += piece.count(b"{") + piece.count(b"[") - piece.count(b"}") - piece.count(b"]")
        if end == len(text):
            return end
        self._in_song = not self._had_song and self._depth == 1 and self._follows_key()
        self._had_song = self._had_song or self._in_song
        self._in_string = True
        self._keep(b'"')
        self._last_string_at = len(self._rest)
        return end + 1

    def _follows_key(self) -> bool:
        last = self._rest[self._last_string_at : self._between_from - 1]
        between = self._rest[self._between_from :]
        return between.strip() == b":" and last == self._key.encode()

    def _string(self, text: bytes, at: int) -> int:
        """Pass over the contents of a string, up to behind its closing quote."""
        match = _IN_STRING.match(text, at)
        end = match.end() if match else at
        piece = text[at:end]
        if self._in_song:
            self._song.feed(piece)
        else:
            self._keep(piece)
        if text[end : end + 1] == b"\\":  # the escape goes on in the next chunk
            self._unread = text[end:]
            return len(text)
        if end < len(text):
            self._keep(b'"')
            self._between_from = len(self._rest)
            self._in_string = self._in_song = False
        return end + 1

    def _keep(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > MAX_REST_BYTES:
            raise InputError("the JSON beside the song is too large", code="payload_too_large")


class _Base64:
    """Decodes base64 that comes as raw pieces of a JSON string; a data URL's prefix and line breaks are passed over."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._raw = b""  # may end inside an escape
        self._text = ""  # less than a group of four, or a beginning that may be a prefix
        self._began = False
        self._ended = False

    def feed(self, raw: bytes) -> None:
        raw = self._raw + raw
        escape = raw.rfind(b"\\", max(0, len(raw) - _LONGEST_ESCAPE + 1))
        self._raw = raw[escape:] if escape >= 0 else b""
        self._decode(raw[: len(raw) - len(self._raw)])

    def finish(self) -> None:
        self._decode(self._raw, is_last=True)

    def _decode(self, raw: bytes, *, is_last: bool = False) -> None:
        try:
            text: str = json.loads(f'"{raw.decode()}"')
        except ValueError as error:
            raise _invalid("the body is not valid JSON") from error
        text = self._text + text.replace("\r", "").replace("\n", "")
        if not self._began and (len(text) >= _LONGEST_DATA_URL or is_last):
            text = _DATA_URL.sub("", text, count=1) if text.startswith("data:") else text
            self._began = True
        whole = len(text) if is_last else len(text) // 4 * 4 if self._began else 0
        self._text = text[whole:]
        if not whole:
            return
        try:
            if self._ended:
                raise ValueError("text after the padding")
            self._write(binascii.a2b_base64(text[:whole].encode("ascii"), strict_mode=True))
        except ValueError as error:
            raise InputError("the song is not valid base64", code="invalid_base64") from error
        self._ended = text[whole - 1] == "="


def _invalid(message: str) -> InputError:
    return InputError(message, code="invalid_json")
