"""How fast a separating child gets on: whether it stands still, and whether its song will end in time."""

import time
from typing import Final

#: What must be left of the grace after the expected end, in seconds: for upload, commit and finish.
DRAIN_RESERVE_SECONDS: Final = 10


class Pace:
    """How fast segments come, measured from the start of the separation."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._done = 0
        self._total: int | None = None

    def advance(self, done: int, total: int) -> None:
        """Note that so many segments of so many are done."""
        self._last = time.monotonic()
        self._done, self._total = done, total

    def go_on(self) -> None:
        """Note a sign of progress that is no segment."""
        self._last = time.monotonic()

    def pass_over(self, seconds: float) -> None:
        """Do not count time in which nobody looked."""
        self._last = min(time.monotonic(), self._last + seconds)

    @property
    def segment_seconds(self) -> float:
        """How long a segment usually takes; 0 while nobody knows."""
        return (self._last - self._started) / self._done if self._done else 0.0

    def stalled(self, least_seconds: float) -> bool:
        """Whether the last segment is longer ago than ten usual ones."""
        return time.monotonic() - self._last > max(least_seconds, 10 * self.segment_seconds)

    def ends_within(self, seconds: float) -> bool:
        """Whether the song will be separated and delivered within `seconds`, as far as one can tell."""
        if self._total is None:
            return False
        return (self._total - self._done) * self.segment_seconds <= seconds - DRAIN_RESERVE_SECONDS
