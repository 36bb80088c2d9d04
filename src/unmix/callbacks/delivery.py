"""The delivery of a callback: one POST to one checked address, with bounds on time and answer.

The janitor calls it when a job is over. Retries and their times belong to the queue's outbox, the rules of who may be
called to `unmix.callbacks.address`, signatures to `signing`, what an answer means to `answer`.
"""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from unmix.callbacks.address import Resolver, Target, check_callback_url, checked_addresses, parse_target, resolve_host
from unmix.callbacks.answer import check_answer
from unmix.callbacks.signing import UNSIGNED, Signer
from unmix.errors import CallbackError, InputError
from unmix.job import Callback

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
#: Of an answer, which nobody looks at; reading a little lets most servers end in peace.
MAX_ANSWER_BYTES: Final = 64 * 1024


def deliver(
    callback: Callback,
    outcome_fields: Mapping[str, Any],
    *,
    allow: str,
    delivery_id: str,
    signer: Signer = UNSIGNED,
    resolve: Resolver | None = None,
) -> int:
    """POST the end of a job to its callback, once. The fields of the outcome win over equally named ones of the data.

    `delivery_id` is the same for every try of one delivery, so that the receiver can tell a repetition. It has no full
    stop, which ends it in what is signed. Returns the status of the answer.

    Raises:
        CallbackError: it did not arrive; `retryable` says whether it may another time.
    """
    try:
        target = parse_target(check_callback_url(callback.url, allow=allow))
    except InputError as error:
        raise CallbackError(error.message, code=error.code, retryable=False) from error
    body = json.dumps({**callback.data, **outcome_fields}).encode()
    headers = {
        "Host": target.host_header,
        "Content-Type": "application/json",
        "User-Agent": "track-unmix",
        **signer.headers(delivery_id, body, at=datetime.now(UTC)),
        "Connection": "close",
    }
    connection = _connect(target, checked_addresses(target, allow, resolve or resolve_host))
    # Socket time-outs count from byte to byte; only the watchdog ends an answer that drips.
    expired = threading.Event()
    watchdog = threading.Timer(ANSWER_SECONDS, _end, [connection.sock, expired])
    watchdog.daemon = True
    watchdog.start()
    try:
        connection.request("POST", target.path, body=body, headers=headers, preload_content=False)
        with contextlib.closing(connection.getresponse()) as response:
            if expired.is_set():  # what was read until then may look like an answer
                raise TimeoutError
            with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):  # the status is all that counts
                response.read(MAX_ANSWER_BYTES, decode_content=False)
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        raise CallbackError("the callback's server broke off or took too long") from error
    finally:
        watchdog.cancel()
        connection.close()
    check_answer(response.status, response.headers.get("Retry-After"))
    return response.status


def _connect(target: Target, addresses: list[str]) -> HTTPConnection:
    """Connect to the first of `addresses` that answers; the certificate must be of the host that was named."""
    deadline = time.monotonic() + CONNECT_SECONDS
    for address in addresses:
        seconds = max(0.1, deadline - time.monotonic())  # of the TCP handshake, and again of the whole TLS handshake
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
        connection.sock.settimeout(ANSWER_SECONDS)
        return connection
    raise CallbackError("the callback's server cannot be reached")


def _end(peer: socket.socket, expired: threading.Event) -> None:
    expired.set()
    with contextlib.suppress(OSError):  # closed meanwhile
        peer.shutdown(socket.SHUT_RDWR)
