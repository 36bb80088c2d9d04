"""The application behind a real port, by waitress.

Waitress reads bodies into temporary files without holding a thread, so that slow uploads cost nothing. What is added
here is whom we believe what about the client, and the end: the port is closed, and what is under way may finish.
`unmix_rest.http.connection` is what each connection is, `unmix_rest.http.places` how many there may be,
`unmix_rest.http.lanes` says which thread answers.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog
from flask import Flask
from waitress import wasyncore
from waitress.server import BaseWSGIServer, create_server

from unmix.runtime.shutdown import Shutdown
from unmix_rest.http.connection import Connection
from unmix_rest.http.cors import Cors
from unmix_rest.http.lanes import Lane, Lanes
from unmix_rest.http.places import Places
from unmix_rest.http.request_head import MEMORY_BODY_BYTES
from unmix_rest.http.upload_room import UploadRoom
from unmix_rest.http.uploads import body_limit_bytes

log = structlog.get_logger()

#: A connection on which nothing moves is closed after so many seconds.
IDLE_SECONDS: Final = 60
#: How often to look, at the end, for connections that can be closed.
DRAIN_POLL_SECONDS: Final = 0.1
#: What each lane's threads have to end when nothing is under way any more; others end with the process.
THREADS_END_SECONDS: Final = 1
#: What the gate says of a client, in the place of what the connection says.
_FORWARDED: Final = frozenset({"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"})


class _Shutdown(Shutdown):
    """Wakes the loop of the sockets when the stop is asked for."""

    def __init__(self, grace_seconds: float, wake: Callable[[], None]) -> None:
        super().__init__(grace_seconds)
        self._wake = wake

    def request(self) -> None:
        super().request()
        self._wake()


def serve(
    app: Flask,
    *,
    lanes_of: Callable[[Any], tuple[Lane, ...]],
    cors: Cors,
    host: str,
    port: int,
    trusted_proxy: str,
    admin: tuple[str, int] | None,
    threads: int,
    streams: int,
    max_upload_mb: int,
    room: UploadRoom,
    shutdown_seconds: float,
    on_stop: Callable[[], None],
) -> None:
    """Answer requests until SIGTERM or SIGINT; what is under way then has `shutdown_seconds` to end.

    What is refused before the application sees it tells other origins of it, by `cors`, as the application does.
    Who the client is says `trusted_proxy`, if it is who asks; what others say of that is taken away. Bodies take
    `room` until they are answered. `threads` answer, and up to `streams` more wait with their clients;
    `on_stop` is called to have these end. What comes in at `admin`, a host and a port, is said to in its environment.
    """
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that uploads wait for each other is meant
    sockets: dict[int, Any] = {}
    lanes = Lanes(threads, streams, lanes_of)
    places = Places()
    options: dict[str, Any] = {
        "map": sockets,
        "_dispatcher": lanes,
        "max_request_body_size": body_limit_bytes(max_upload_mb << 20) + 1,
        "channel_timeout": IDLE_SECONDS,
        "cleanup_interval": 5,
        "connection_limit": places.most_sockets,
        "recv_bytes": 64 * 1024,
        "inbuf_overflow": MEMORY_BODY_BYTES,
        "outbuf_high_watermark": 1 << 30,  # what need not wait for its client in a thread does so on the disk
        "ident": "",
        "clear_untrusted_proxy_headers": True,
    }
    forwarded: dict[str, Any] = {"trusted_proxy": trusted_proxy, "trusted_proxy_headers": _FORWARDED}
    listeners: list[BaseWSGIServer] = []
    for place, for_operators in ((host, port), False), (admin, True):
        if place is None:
            continue
        believed = forwarded if trusted_proxy and not for_operators else {}
        create_server(app, host=place[0], port=place[1], **options, **believed)
        make = partial(Connection, cors=cors, room=room, for_operators=for_operators)
        for listener in sockets.values():
            if isinstance(listener, BaseWSGIServer) and listener not in listeners:
                channel_class: Any = partial(places.seat, make)
                listener.channel_class = channel_class
                listeners.append(listener)
    shutdown = _Shutdown(shutdown_seconds, wake=listeners[0].pull_trigger)
    shutdown.listen()
    while not shutdown.requested:
        wasyncore.loop(timeout=1, use_poll=True, map=sockets, count=1)
        places.cut_off_stuck(sockets)
    on_stop()
    _drain(sockets, listeners, shutdown)
    lanes.shutdown(timeout=THREADS_END_SECONDS)


def _drain(sockets: dict[int, Any], listeners: list[BaseWSGIServer], shutdown: Shutdown) -> None:
    """Close the port, then each connection when nothing is under way on it, until none or no time is left.

    Who has asked by then is answered, accepted or not: the kernel takes connections and their requests beforehand.
    """

    def connections() -> list[Connection]:
        return [socket for socket in sockets.values() if isinstance(socket, Connection)]

    for listener in listeners:
        known = -1
        while listener.readable() and len(sockets) > known:  # there is room, and the last time somebody came
            known = len(sockets)
            listener.handle_accept()
        wasyncore.dispatcher.close(listener)  # its own `close` would also end what threads wake the loop with
    log.info("rest takes no more connections", open=len(connections()))
    while connections() and shutdown.seconds_left > 0:
        wasyncore.loop(timeout=DRAIN_POLL_SECONDS, use_poll=True, map=sockets, count=1)
        for listener in listeners:
            listener.maintenance(int(time.time()))
        for connection in connections():
            connection.close_if_idle()
    if connections():
        log.warning("rest cuts off what is under way", connections=len(connections()))
