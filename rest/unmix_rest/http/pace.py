"""How fast something moves on a connection, a minute at a time: a burst does not pay for what follows it.

A client that sends or reads next to nothing keeps a place that others could have, and the room of what came before.
`unmix_rest.http.connection` cuts such clients off, `unmix_rest.http.places` asks who is slowest.
"""

from typing import Final

#: What moves slower than this counts as not moving.
SLOWEST_BYTES_PER_SECOND: Final = 256


def is_next_to_nothing(moved_bytes: float, seconds: float) -> bool:
    """Tell whether so little in so much time counts as not moving."""
    return moved_bytes < seconds * SLOWEST_BYTES_PER_SECOND


class Pace:
    """Looks at one direction of one connection; what has moved is counted by whoever asks."""

    def __init__(self, now: float, moved_bytes: int = 0) -> None:
        self._last = self._before = (now, moved_bytes)  # the last look, and the one before it

    def bytes_per_second(self, now: float, moved_bytes: int) -> float:
        """Return how fast it moves, since the look before the last one."""
        at, bytes_then = self._before
        return (moved_bytes - bytes_then) / max(now - at, 1)

    def is_too_slow(self, now: float, moved_bytes: int, *, look_seconds: float) -> bool:
        """Tell whether next to nothing has moved since the last look; one is taken after each `look_seconds`."""
        at, bytes_then = self._last
        if now - at < look_seconds:
            return False
        self._before, self._last = self._last, (now, moved_bytes)
        return is_next_to_nothing(moved_bytes - bytes_then, now - at)
