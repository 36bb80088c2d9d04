"""The head of a request, as waitress reads it, and refused where others on the way may have read something else.

Whoever can make a proxy and this service disagree on where a body ends can put a request into somebody else's
connection. So a length is said once and plainly, or the request is none.
"""

import re
from typing import Final

from waitress.parser import HTTPRequestParser, ParsingError

_TRANSFER_ENCODING: Final = re.compile(rb"^transfer-encoding[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class RequestHead(HTTPRequestParser):
    """Reads one request."""

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
