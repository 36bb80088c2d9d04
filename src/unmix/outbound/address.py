"""Which servers clients may make this service ask: for callbacks, and for songs.

`Guard.check` is asked when a song is submitted, and judges a URL by its looks. `Guard.addresses` resolves a name, once,
when the server is asked; whoever asks connects to exactly these addresses, so that a name that changes between check
and use gains nothing.
"""

import contextlib
import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from unmix.errors import InputError, UnreachableError

MAX_URL_CHARACTERS: Final = 2048
#: Longest wait for the addresses of a host: two tries of a resolver, as most are configured.
RESOLVE_SECONDS: Final = 10.0

#: What `ipaddress` takes for public, in some versions of Python at least, and is none of a stranger's: 192.0.0.0/24 is
#: for protocols, and clouds tell their machines about themselves at 192.0.0.192 (Oracle) and 168.63.129.16 (Azure).
_NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(each) for each in ("192.0.0.0/24", "168.63.129.16/32", "5f00::/16", "3fff::/20")
)
_PRIVATE_NAMES: Final = (".localhost", ".local", ".internal", ".svc", ".cluster.local")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Gives the addresses of a host, as `socket.getaddrinfo` would.
Resolver = Callable[[str, int], list[str]]


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart: `host` is in ASCII, `address` is set if the host is one in any spelling."""

    url: SplitResult
    host: str
    port: int
    address: Address | None

    @property
    def is_https(self) -> bool:
        """Whether TLS is spoken there."""
        return self.url.scheme == "https"

    @property
    def path(self) -> str:
        """What is asked for there, with the query."""
        return (self.url.path or "/") + (f"?{self.url.query}" if self.url.query else "")

    @property
    def host_header(self) -> str:
        """The value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.url.port is None else f"{host}:{self.url.port}"


@dataclass(frozen=True, slots=True)
class Guard:
    """Lets through what leads into the open internet, or to a place that `allow` names.

    `allow` holds host names, addresses and networks, separated by commas: a setting of the operator. `purpose` is what
    the servers are asked for; the codes of errors begin with it.
    """

    purpose: Literal["callback", "song_url"]
    allow: str

    def check(self, url: str) -> str:
        """Return `url` with its scheme, if it looks like a place that may be asked.

        Raises:
            InputError: another scheme than http(s) (`callback_scheme`, `song_url_scheme`), or a place that is not ours
                to knock at (`callback_forbidden`, `song_url_forbidden`).
        """
        return self.target(url).url.geturl()

    def target(self, url: str) -> Target:
        """Take a URL apart that may be asked; see `check` for the errors."""
        try:
            target = parse_target(url)
        except _WrongSchemeError as error:
            raise InputError(error.args[0], code=f"{self.purpose}_scheme") from error
        except ValueError as error:
            raise self._forbidden(str(error)) from error
        hosts, networks = _allowed(self.allow)
        if target.host in hosts:
            return target
        if target.address is not None:
            if not _may_reach(target.address, networks):
                raise self._forbidden(f"this service may not be made to ask this address{self._remedy}")
        elif "." not in target.host or target.host.endswith(_PRIVATE_NAMES):
            raise self._forbidden(f"this service may not be made to ask this host{self._remedy}")
        return target

    def addresses(self, target: Target, resolve: Resolver) -> list[str]:
        """Resolve the host, and refuse it whole if one of its addresses is none of ours to reach.

        Raises:
            UnreachableError: it has no address (`callback_failed`, `song_url_failed`), or a private one
                (`callback_forbidden`, `song_url_forbidden`).
        """
        if target.address is not None:
            addresses = [str(target.address)]
        else:
            try:
                addresses = resolve(target.host, target.port)
            except (OSError, UnicodeError) as error:
                raise UnreachableError("the host has no address", code=f"{self.purpose}_failed") from error
        hosts, networks = _allowed(self.allow)
        if target.host not in hosts and not all(_may_reach(ipaddress.ip_address(each), networks) for each in addresses):
            raise UnreachableError("the host leads to a private address", code=f"{self.purpose}_forbidden")
        return addresses

    @property
    def _remedy(self) -> str:
        return f"; its operator can allow it by UNMIX_{self.purpose.upper()}_ALLOW"

    def _forbidden(self, message: str) -> InputError:
        return InputError(message, code=f"{self.purpose}_forbidden")


class _WrongSchemeError(ValueError):
    """A URL has another scheme than http(s)."""


def parse_target(url: str) -> Target:
    """Take a URL apart, which has no scheme perhaps.

    Raises:
        ValueError: it is none that could be asked; the message says why.
    """
    if len(url) > MAX_URL_CHARACTERS or re.search(r"[\x00-\x20\x7f\\]", url):
        raise ValueError("a URL has no blanks, control characters or backslashes, nor more than 2,048 characters")
    if "://" not in url:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:(?!\d)", url):  # `gopher:x`, and not `host:5000`
            raise _WrongSchemeError("only URLs with http and https are asked")
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        port = (443 if parts.scheme == "https" else 80) if parts.port is None else parts.port
        host = (parts.hostname or "").rstrip(".")
        host = host if ":" in host else host.encode("idna").decode().lower()
    except ValueError as error:
        raise ValueError("the URL names no host") from error
    if parts.scheme not in ("http", "https"):
        raise _WrongSchemeError("only URLs with http and https are asked")
    if not host or not port or "@" in parts.netloc or "%" in host or ("[" in parts.netloc and ":" not in host):
        raise ValueError("the URL has to name a host, without user or zone")
    if not parts.geturl().isascii():
        raise ValueError("a URL is in ASCII, other characters percent-encoded")
    return Target(parts, host, port, _address(host))


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
    if any(address in network for network in _NOT_PUBLIC):
        return False
    # `is_global` leaves out multicast, and the IPv6 ranges that embed IPv4 addresses (NAT64 and others) are reserved.
    return address.is_global and not (address.is_multicast or address.is_reserved)


def host_of(url: str) -> str:
    """Return the host that a URL names, in whatever spelling, empty if it names none: by this callbacks are counted."""
    try:
        target = parse_target(url)
    except ValueError:
        return ""
    return str(getattr(target.address, "ipv4_mapped", None) or target.address or target.host)


def resolve_host(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host, and wait for `RESOLVE_SECONDS` at most.

    The system itself may take minutes, by the servers and domains in its configuration; its call cannot be ended, so
    it goes on in a thread of its own.

    Raises:
        OSError: it has none, or it took too long (`TimeoutError`).
    """
    answer: queue.SimpleQueue[list[Any] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=RESOLVE_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no address of {host} came in time") from None
    if isinstance(found, Exception):
        raise found
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
