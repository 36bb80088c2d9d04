"""One request to a server elsewhere, at a checked address, with bounds on time; who reads the answer bounds its size.

Nothing here follows a redirect or speaks through a proxy of the environment: whom to ask next is decided by whoever
asks, through the same guard.
"""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse

from unmix.errors import UnreachableError
from unmix.outbound.address import Target

CONNECT_SECONDS: Final = 5.0
#: Most addresses of a host that are tried: a name may have thousands, and share out the time among them.
MOST_ADDRESSES: Final = 4
#: Longest pause between two bytes.
PAUSE_SECONDS: Final = 10.0
#: How often whoever calls is asked whether the call is still wanted, in seconds.
LOOK_SECONDS: Final = 1.0
USER_AGENT: Final = "track-unmix"

_BROKE_OFF: Final = "the server broke off or took too long"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answers, as long as the call lasts."""

    response: HTTPResponse
    _expired: threading.Event

    @property
    def is_cut_off(self) -> bool:
        """Whether the time was over while the answer came: what was read may look complete and is not."""
        return self._expired.is_set()


@contextmanager
def call(
    method: str,
    target: Target,
    addresses: list[str],
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    seconds: float,
    go_on: Callable[[], None] = lambda: None,
) -> Iterator[Answer]:
    """Ask `target` at the first of `addresses` that answers; `seconds` after it is connected the call is cut off.

    So it is when `go_on` raises, which is called now and then, from another thread: a server that sends nothing that
    counts would keep its caller waiting otherwise. Whoever calls asks it again, to know why.

    Raises:
        UnreachableError: it cannot be reached, breaks off or takes too long, also while the answer is read inside of
            the context.
    """
    connection = _connect(target, addresses)
    # Socket time-outs count from byte to byte; only the watchdog ends an answer that drips.
    expired, over = threading.Event(), threading.Event()
    watchdog = threading.Thread(target=_watch, args=(connection.sock, seconds, go_on, expired, over), daemon=True)
    watchdog.start()
    try:
        all_headers = {"Host": target.host_header, "User-Agent": USER_AGENT, **headers, "Connection": "close"}
        with contextlib.closing(_ask(connection, method, target.path, all_headers, body)) as response:
            answer = Answer(response, expired)
            if answer.is_cut_off:  # what was read until then may look like an answer
                raise UnreachableError(_BROKE_OFF)
            yield answer
    except (urllib3.exceptions.HTTPError, http.client.HTTPException) as error:  # while it is read
        raise UnreachableError(_BROKE_OFF) from error
    finally:
        over.set()
        connection.close()


def _ask(
    connection: HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> HTTPResponse:
    try:
        connection.request(method, path, body=body, headers=headers, preload_content=False)
        return connection.getresponse()
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        raise UnreachableError(_BROKE_OFF) from error


def _connect(target: Target, addresses: list[str]) -> HTTPConnection:
    """Connect to the first of `addresses` that answers; the certificate must be of the host that was named."""
    deadline = time.monotonic() + CONNECT_SECONDS
    tried = addresses[:MOST_ADDRESSES]
    for number, address in enumerate(tried):
        # Of the TCP handshake, and again of the whole TLS handshake: one that is dead leaves time for the next.
        seconds = max(0.1, (deadline - time.monotonic()) / (len(tried) - number))
        connection = (
            HTTPSConnection(
                address,
                target.port,
                timeout=seconds,
                server_hostname=target.host,
                assert_hostname=target.host,
                cert_reqs="CERT_REQUIRED",
            )
            if target.is_https
            else HTTPConnection(address, target.port, timeout=seconds)
        )
        try:
            connection.connect()
        except (urllib3.exceptions.HTTPError, OSError, ValueError):  # ValueError: the certificate is of another host
            connection.close()
            continue
        connection.timeout = PAUSE_SECONDS  # of the connection: urllib3 sets that of the socket by it once more
        return connection
    raise UnreachableError("the server cannot be reached")


def _watch(
    peer: socket.socket, seconds: float, go_on: Callable[[], None], expired: threading.Event, over: threading.Event
) -> None:
    """Cut a call off when its time is over or it is not wanted any more, unless it is over before."""
    deadline = time.monotonic() + seconds
    while not over.wait(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic()))):
        with contextlib.suppress(Exception):  # whatever it is, the caller asks again
            go_on()
            if time.monotonic() < deadline:
                continue
        expired.set()
        with contextlib.suppress(OSError):  # closed meanwhile
            peer.shutdown(socket.SHUT_RDWR)
        return
