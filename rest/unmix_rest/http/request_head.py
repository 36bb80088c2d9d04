"""One request as waitress reads it, and refused where others on the way may have read something else.

Whoever can make a proxy and this service disagree on where a body ends can put a request into somebody else's
connection. So a length is said once and plainly, or the request is none. A body is read as far as there is room for it.
"""

import errno
import re
from contextlib import suppress
from typing import Any, Final

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error

from unmix_rest.http.bodies import BodyRoom
from unmix_rest.http.chunks import Chunks

_TRANSFER_ENCODING: Final = re.compile(rb"^transfer-encoding[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_DISK_IS_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoom(Error):
    """There is no room for the body, for the moment."""

    code = 503
    reason = "Service Unavailable"


class RequestHead(HTTPRequestParser):
    """Reads one request."""

    def __init__(self, adj: Any, room: BodyRoom) -> None:
        super().__init__(adj)
        self._room = room
        self._held_bytes = 0

    def received(self, data: bytes) -> int:
        """Read on, and return how many bytes of `data` were of this request."""
        had_head, before = self.headers_finished, self.body_bytes_received
        try:
            consumed: int = super().received(data)
        except OSError as error:
            if error.errno not in _DISK_IS_FULL:
                raise
            self._refuse()
            return len(data)
        came = self.body_bytes_received - before
        self._held_bytes += came
        has_room = self._room.take(came) if came else had_head or self._room.fits(self.content_length)
        if not has_room and self.error is None:
            self._refuse()
        return consumed

    def close(self) -> None:
        """Remove what there is of the body."""
        with suppress(OSError):  # where the disk is full, the file has something left to write
            super().close()
        self._room.give_back(self._held_bytes)
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

    def _refuse(self) -> None:
        self.error = NoRoom("there is no room for the body")
        self.completed = True
        self.close()


class Early(RequestHead):
    """Stands in for a request that came before the one in front of it was answered: keeps its bytes as they are."""

    data = b""

    def received(self, data: bytes) -> int:
        """Keep all, and be no request."""
        self.data = data
        self.completed = self.empty = True
        return len(data)
