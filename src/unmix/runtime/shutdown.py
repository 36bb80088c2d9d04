"""Turns SIGTERM and SIGINT into a question that a process asks at convenient moments."""

import signal
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType


class Shutdown:
    """Whether the process was asked to stop, and how much of its grace is left."""

    def __init__(self, grace_seconds: float = 0) -> None:
        self._grace_seconds = grace_seconds
        self._asked_at: float | None = None
        # Not an Event: a handler that sets one hangs if it interrupts the very thread that begins to wait for it.
        self._requests: SimpleQueue[None] = SimpleQueue()

    def listen(self) -> None:
        """Install the signal handlers; main thread only."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def request(self) -> None:
        """Ask for the stop; the grace runs from the first time."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        self._requests.put(None)

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self._asked_at is not None

    @property
    def seconds_left(self) -> float:
        """What is left of the grace; the whole of it as long as nobody asked."""
        if self._asked_at is None:
            return self._grace_seconds
        return self._grace_seconds - (time.monotonic() - self._asked_at)

    def wait(self, seconds: float) -> bool:
        """Sleep, or wake at once when the stop is asked for; return whether it was. For one thread only."""
        if not self.requested:
            with suppress(Empty):
                self._requests.get(timeout=seconds)
        return self.requested

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.request()
