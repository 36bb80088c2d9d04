"""Whose a request is, as far as fairness goes: its client's address; and whether that client is still there."""

import ipaddress
import select
from contextlib import suppress
from socket import socket
from typing import Any, Final

from flask import request

from unmix.errors import InputError

#: In the environment of a request: a function that tells whether its client is gone. Other servers say nothing.
IS_GONE: Final = "unmix.is_gone"

#: The client has closed its connection, or its half of it; only Linux tells the latter.
_GONE: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)


def client_at(address: str) -> str:
    """Return whose an address is: of IPv6 everybody has 64 bits of them."""
    with suppress(ValueError):
        if isinstance(known := ipaddress.ip_address(address.partition("%")[0]), ipaddress.IPv6Address):
            return str(known.ipv4_mapped or ipaddress.ip_network((known, 64), strict=False))
    return address


def client_of(channel: Any, parsed: Any) -> str:
    """Return whose a request is that no thread has begun to answer, as waitress has it."""
    address = str(channel.addr[0])
    if channel.adj.trusted_proxy in ("*", address):  # what it says of others counts, as it will in REMOTE_ADDR
        address = parsed.headers.get("X_FORWARDED_FOR", "").rpartition(",")[2].strip(' "') or address
    return client_at(address)


def client() -> str:
    """Return whose the present request is."""
    return client_at(request.remote_addr or "")


def refuse_if_gone() -> None:
    """Give up a request that nobody waits for any more.

    Raises:
        InputError: its client is gone (`client_gone`).
    """
    is_gone = request.environ.get(IS_GONE)
    if is_gone is not None and is_gone():
        raise InputError("whoever sent this has gone before it was answered", code="client_gone")


def has_left(peer: socket) -> bool:
    """Tell whether the other end of a connection has closed it, whatever it has sent that nobody has read yet."""
    poll = select.poll()
    try:
        poll.register(peer, getattr(select, "POLLRDHUP", 0))
    except (OSError, ValueError):  # it was closed here, a moment ago
        return True
    return any(events & _GONE for _, events in poll.poll(0))
