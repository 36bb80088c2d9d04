"""How many connections there may be, and who has to go so that others find a place.

Whoever comes last finds a place as long as somebody has one who sends next to nothing: the slowest goes. So a crowd of
idle or trickling connections costs those who wait for them, and not those who come to ask something. That somebody has
many of them is for a proxy to see (`unmix_rest.gate`): behind one, all have the same address here.
"""

import resource
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from unmix_rest.http.connection import Connection

MOST_CONNECTIONS: Final = 500
#: Descriptors of a connection: its socket, the file of a body or an answer, and what is read for it.
_FILES_EACH: Final = 3
#: Descriptors that everything else needs.
_OTHER_FILES: Final = 200
#: Beyond our places: what is taken in before somebody else is let go, and waitress' own sockets.
_SPARE_SOCKETS: Final = 16
_LOOK_SECONDS: Final = 1.0


class Places:
    """The places for connections; asked by the loop of the sockets only."""

    def __init__(self) -> None:
        """Have as many places as the system gives this process descriptors for, up to `MOST_CONNECTIONS`."""
        files = _raise_file_limit(_OTHER_FILES + _FILES_EACH * MOST_CONNECTIONS)
        self._most = max(1, min(MOST_CONNECTIONS, (files - _OTHER_FILES) // _FILES_EACH))
        self.most_sockets = self._most + _SPARE_SOCKETS
        self._looked_at = 0.0

    def seat(self, make: Callable[..., Connection], server: Any, *args: Any, **kwargs: Any) -> Connection:
        """Make a connection of `server`, and let the slowest of all others go if there are too many."""
        others = [channel for channel in server.active_channels.values() if isinstance(channel, Connection)]
        if len(others) >= self._most:
            slowest = _slowest(others)
            if slowest is not None:
                slowest.handle_close()
        return make(server, *args, **kwargs)

    def cut_off_stuck(self, sockets: Mapping[int, Any]) -> None:
        """Cut off, once a second at most, clients that send or read next to nothing."""
        now = time.time()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        for connection in [each for each in sockets.values() if isinstance(each, Connection)]:
            connection.end_if_stuck(now)


def _slowest(connections: Iterable[Connection]) -> Connection | None:
    """Return who sends least, and of those the one who has been silent for longest; None if all are being answered."""
    now = time.time()
    rates = [
        (rate, each.last_activity, each) for each in connections if (rate := each.bytes_per_second(now)) is not None
    ]
    return min(rates, key=lambda entry: entry[:2])[2] if rates else None


def _raise_file_limit(wanted: int) -> int:
    """Let this process have as many descriptors, if it may, and return how many it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft
