"""How the S3 home of the object store talks HTTP: time-outs, bounded retries, bodies that go and come in pieces.

`unmix.store.s3` gives `Connections` to the SDK and hands `Body` to those who read.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

import urllib3

#: The 60 s are for one silence of the server, not for a whole object.
TIMEOUT_SECONDS: Final = urllib3.Timeout(connect=5.0, read=60.0)
#: A server that is away is given up after three tries to connect: 16 s where packets vanish, 1 s where the connection
#: is refused. The SDK's own choice, 5 minutes and 5 retries, would hold a worker for half an hour.
RETRIES: Final = urllib3.Retry(
    total=3,
    connect=2,
    read=2,
    status=2,
    status_forcelist=(500, 502, 503, 504),
    backoff_factor=0.3,
    raise_on_status=False,  # the last answer says more than "too many 503 error responses"
)
#: More than REST has threads; the pool would close the surplus after each use and log a warning.
CONNECTIONS: Final = 32
#: Bytes handed to the socket at once.
PIECE_BYTES: Final = 1 << 16


class Connections(urllib3.PoolManager):
    """Connections that send a body piece by piece.

    urllib3 bounds the sending of a body by the time-out for connecting, and one given as bytes as a whole: 5 MiB
    would have to leave within 5 s. Piece by piece it bounds each piece.
    """

    def __init__(self) -> None:
        super().__init__(maxsize=CONNECTIONS, timeout=TIMEOUT_SECONDS, retries=RETRIES)

    def urlopen(self, method: str, url: str, *args: Any, **kw: Any) -> urllib3.BaseHTTPResponse:
        """Send a request and return the answer."""
        body = kw.get("body")
        if isinstance(body, bytes) and body:  # an empty one must keep its Content-Length: 0
            kw["body"] = _Pieces(body)
        return super().urlopen(method, url, *args, **kw)


class _Pieces:
    """Bytes as pieces, from the start each time that the request is sent."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def __iter__(self) -> Iterator[memoryview]:
        return (self._data[start : start + PIECE_BYTES] for start in range(0, len(self._data), PIECE_BYTES))


class Body(io.RawIOBase):
    """The body of an answer as a file; whatever fails while it is read is translated by `errors`."""

    def __init__(self, response: urllib3.BaseHTTPResponse, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._response = response
        self._errors = errors

    def readable(self) -> bool:
        """Tell that this can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as bytes are there; 0 is the end, and it is the true one: a cut body raises."""
        with self._errors():
            data = self._response.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        self._response.close()
        self._response.release_conn()
        super().close()
