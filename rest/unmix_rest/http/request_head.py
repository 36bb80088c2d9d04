"""One request as waitress reads it, and refused where others on the way may have read something else.

Whoever can make a proxy and this service disagree on where a body ends can put a request into somebody else's
connection. So a length is said once and plainly, or the request is none. A body is read as far as there is room for it.
"""

import errno
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error

from unmix.errors import UnmixError
from unmix_rest.http.chunks import Chunks
from unmix_rest.http.pace import Pace
from unmix_rest.http.upload_room import UploadRoom

#: Bodies up to this size stay in memory, whatever the disk is like: what cancels or removes always finds its way.
MEMORY_BODY_BYTES: Final = 64 * 1024

_TRANSFER_ENCODING: Final = re.compile(rb"^transfer-encoding[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_DISK_IS_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(Error):
    """There is no room for the body, for the moment."""

    code = 503
    reason = "Service Unavailable"


class TooSlow(Error):
    """Next to nothing of the body came for a while."""

    code = 408
    reason = "Request Timeout"


class RequestHead(HTTPRequestParser):
    """Reads one request."""

    def __init__(self, adj: Any, room: UploadRoom, client_of: Callable[[HTTPRequestParser], str]) -> None:
        """Whose the body is says `client_of` once the head was read."""
        super().__init__(adj)
        self._room = room
        self._client_of = client_of
        self._client = ""
        self._held_bytes = 0
        self.pace = Pace(time.time())

    @property
    def received_bytes(self) -> int:
        """How much has come of the request."""
        return int(self.header_bytes_received + self.body_bytes_received)

    def received(self, data: bytes) -> int:
        """Read on, and return how many bytes of `data` were of this request."""
        had_head = self.headers_finished
        try:
            consumed: int = super().received(data)
            if self.error is None:
                self._hold() if had_head else self._look()
        except OSError as error:
            if error.errno not in _DISK_IS_FULL:
                raise
            self.refuse(NoRoom("the disk is full"))
            return len(data)
        except UnmixError as error:
            self.refuse(NoRoom(error.message))
        return consumed

    def refuse(self, error: Error) -> None:
        """Answer with an error, and keep nothing of the body."""
        self.error = error
        self.completed = True
        self.close()

    def close(self) -> None:
        """Remove what there is of the body."""
        with suppress(OSError):  # where the disk is full, the file has something left to write
            super().close()
        self._room.give_back(self._client, self._held_bytes)
        self._held_bytes = 0

    def parse_header(self, header_plus: bytes) -> None:
        """Read the head.

        Raises:
            ParsingError: it is none, or does not say plainly how long the body is (RFC 9112, section 6.1).
        """
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # a number of thousands of digits, or a target that is no URL
            raise ParsingError("the head of the request is not well-formed") from error
        codings = [coding.strip(b" \t").lower() for coding in _TRANSFER_ENCODING.findall(header_plus)]
        if codings and (codings != [b"chunked"] or not self.chunked or "CONTENT_LENGTH" in self.headers):
            raise ParsingError("the request says in two ways how long its body is")
        if self.chunked and self.body_rcv is not None:
            self.body_rcv = Chunks(self.body_rcv.getbuf())

    def _look(self) -> None:
        """Refuse a body of which the head says that there is no room for it."""
        if self.headers_finished:
            self._client = self._client_of(self)
            if self.content_length > MEMORY_BODY_BYTES:
                self._room.look(self._client, self.content_length)

    def _hold(self) -> None:
        """Take room for what has come of the body."""
        if self.body_bytes_received > MEMORY_BODY_BYTES:
            more = self.body_bytes_received - self._held_bytes
            self._room.take_written(self._client, more)
            self._held_bytes += more


class Early(RequestHead):
    """Stands in for a request that came before the one in front of it was answered: keeps its bytes as they are."""

    data = b""

    def received(self, data: bytes) -> int:
        """Keep all, and be no request."""
        self.data = data
        self.completed = self.empty = True
        return len(data)
