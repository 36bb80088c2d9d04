"""How long a client waits for a server that is away or busy: what passes by itself is tried again, for a while.

Nothing here knows of HTTP; `connection` decides what passes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from unmix.errors import UnmixError

#: Pause before the second try; it doubles with each, up to the longest.
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 10.0


def say_nothing(error: UnmixError, pause_seconds: float) -> None:
    """Wait without a word."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait in all, from the first failure on, and whom to tell why and for how long each time."""

    seconds: float = 600.0
    on_wait: Callable[[UnmixError, float], None] = say_nothing
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


class Tries:
    """The tries of one request, which share one patience."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._gives_up_at: float | None = None

    def wait_after(self, error: UnmixError, retry_after_seconds: float = 0.0) -> None:
        """Return when it is time for the next try, and not before the server wants it.

        Raises:
            UnmixError: `error` itself, if it does not pass, or not in the time that there is.
        """
        now = self._patience.clock()
        if self._gives_up_at is None:
            self._gives_up_at = now + self._patience.seconds
        pause_seconds = max(self._pause_seconds, retry_after_seconds)
        if not error.retryable or now + pause_seconds > self._gives_up_at:
            raise error
        self._patience.on_wait(error, pause_seconds)
        self._patience.sleep(pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)
