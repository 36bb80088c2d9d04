"""Callbacks: where a service may be made to send requests, and the sending of one.

`check_callback_url` is asked when a song is submitted, by looks alone; `deliver` is called by the janitor when the job
is over. Only `deliver` resolves names, once, and connects to exactly the addresses it has checked, so that a name that
changes between check and use gains nothing. Retries and their times belong to the queue's outbox.
"""

import contextlib
import http.client
import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from unmix.errors import CallbackError, InputError
from unmix.job import Callback

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
#: Of an answer, which nobody looks at; reading a little lets most servers end in peace.
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_URL_CHARACTERS: Final = 2048

_PRIVATE_NAMES: Final = (".localhost", ".local", ".internal", ".svc", ".cluster.local")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Gives the addresses of a host, as `socket.getaddrinfo` would.
Resolver = Callable[[str, int], list[str]]


@dataclass(frozen=True, slots=True)
class _Target:
    """A callback URL taken apart: `host` is in ASCII, `address` is set if the host is one in any spelling."""

    url: SplitResult
    host: str
    port: int
    address: Address | None

    @property
    def is_https(self) -> bool:
        return self.url.scheme == "https"

    @property
    def path(self) -> str:
        return (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.url.port is None else f"{host}:{self.url.port}"


def check_callback_url(url: str, *, allow: str) -> str:
    """Return `url` with its scheme, if it looks like a place in the open internet or one that `allow` names.

    `allow` holds host names, addresses and networks, separated by commas: the setting `callback_allow`.

    Raises:
        InputError: another scheme than http(s) (`callback_scheme`), or a place that is not ours to knock at
            (`callback_forbidden`).
    """
    target = _parse(url)
    hosts, networks = _allowed(allow)
    if target.host in hosts:
        return target.url.geturl()
    if target.address is not None:
        if not _may_reach(target.address, networks):
            raise _forbidden("callbacks to this address are not allowed")
    elif "." not in target.host or target.host.endswith(_PRIVATE_NAMES):
        raise _forbidden("callbacks to this host are not allowed")
    return target.url.geturl()


def deliver(
    callback: Callback,
    outcome_fields: Mapping[str, Any],
    *,
    allow: str,
    delivery_id: str,
    resolve: Resolver | None = None,
) -> None:
    """POST the end of a job to its callback, once. The fields of the outcome win over equally named ones of the data.

    `delivery_id` is the same for every try of one delivery, so that the receiver can tell a repetition.

    Raises:
        CallbackError: it did not arrive; `retryable` says whether it may another time.
    """
    try:
        target = _parse(check_callback_url(callback.url, allow=allow))
    except InputError as error:
        raise CallbackError(error.message, code=error.code, retryable=False) from error
    body = json.dumps({**callback.data, **outcome_fields}).encode()
    headers = {
        "Host": target.host_header,
        "Content-Type": "application/json",
        "User-Agent": "track-unmix",
        "Webhook-Id": delivery_id,
        "Connection": "close",
    }
    connection = _connect(target, _checked_addresses(target, allow, resolve or _resolve))
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
    if not 200 <= response.status < 300:
        raise CallbackError(f"the callback's server answered {response.status}")


def _parse(url: str) -> _Target:
    if len(url) > MAX_URL_CHARACTERS or re.search(r"[\x00-\x20\x7f\\]", url):
        raise _forbidden("a callback's URL has no blanks, control characters or backslashes, nor 2,000 characters")
    if "://" not in url:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:(?!\d)", url):  # `gopher:x`, and not `host:5000`
            raise InputError("callbacks go to http or https", code="callback_scheme")
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = (parts.hostname or "").rstrip(".")
        host = host if ":" in host else host.encode("idna").decode().lower()
    except ValueError as error:
        raise _forbidden("the callback's URL names no host") from error
    if parts.scheme not in ("http", "https"):
        raise InputError("callbacks go to http or https", code="callback_scheme")
    if not host or "@" in parts.netloc or "%" in host:
        raise _forbidden("a callback's URL names a host, without user or zone")
    if not parts.geturl().isascii():
        raise _forbidden("a callback's URL is in ASCII, other characters percent-encoded")
    return _Target(parts, host, port, _address(host))


def _address(host: str) -> Address | None:
    """Read a host as the address that a resolver would take it for: also `2130706433` and `0x7f.1`."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    with contextlib.suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None


@lru_cache(maxsize=8)
def _allowed(allow: str) -> tuple[frozenset[str], tuple[Network, ...]]:
    hosts, networks = set(), []
    for entry in filter(None, (part.strip().lower() for part in allow.split(","))):
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            hosts.add(entry)
    return frozenset(hosts), tuple(networks)


def _may_reach(address: Address, networks: tuple[Network, ...]) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        for inner in (address.ipv4_mapped, address.sixtofour):
            if inner is not None:
                return _may_reach(inner, networks)
    if any(address in network for network in networks):
        return True
    # `is_global` leaves out multicast, and the IPv6 ranges that embed IPv4 addresses (NAT64 and others) are reserved.
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _checked_addresses(target: _Target, allow: str, resolve: Resolver) -> list[str]:
    """Resolve the host, and refuse it whole if one of its addresses is none of ours to reach."""
    if target.address is not None:
        addresses = [str(target.address)]
    else:
        try:
            addresses = resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            raise CallbackError("the callback's host has no address") from error
    hosts, networks = _allowed(allow)
    if target.host not in hosts and not all(_may_reach(ipaddress.ip_address(each), networks) for each in addresses):
        raise CallbackError("the callback's host leads to a private address", code="callback_forbidden")
    return addresses


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _connect(target: _Target, addresses: list[str]) -> HTTPConnection:
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


def _forbidden(message: str) -> InputError:
    return InputError(message, code="callback_forbidden")
