"""Which delivery goes next: a lane for each host, served in turn, so that nobody waits for the pile of another.

What waits is read from the outbox again and again (`refill`), in the order in which it was due, which a lane keeps.
Where a delivery goes stands in its job's documents. Those of which that is not known yet have a lane of their own,
until whoever reads the documents says so (`route`); that is done for several at once, so a later one may be the first
to go. Nothing is lost with what is here. No I/O, no clock: `now` is in seconds of one that only goes forward. Not safe
for threads.
"""

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

#: Deliveries kept here of one host, and of all; the rest stays in the outbox until the next look at it.
LANE_KEPT: Final = 100
KEPT: Final = 10_000


@dataclass(frozen=True, order=True, slots=True)
class Waiting:
    """A delivery that is due, the `place`-th; `host` is empty while it is not known."""

    place: int
    job_id: str
    index: int
    host: str = ""

    @property
    def entry(self) -> tuple[str, int]:
        """What the delivery is called in the outbox."""
        return self.job_id, self.index


class Lanes:
    """What waits, and what is under way: to one host no more than `at_once`."""

    def __init__(self, *, at_once: int) -> None:
        self._at_once = at_once
        self._lanes: dict[str, list[Waiting]] = {}  # by host, the next one to be served at the head
        self._under_way: dict[tuple[str, int], str] = {}  # and to which host
        self._at_host: Counter[str] = Counter()
        self._paused: dict[str, float] = {}  # `host:<host>` and `job:<job_id>`, until when

    def refill(self, due: Iterable[tuple[tuple[str, int], str | None]], *, now: float) -> None:
        """Replace all that waits by what is due, and is not under way."""
        self._paused = {what: until for what, until in self._paused.items() if until > now}
        lanes: dict[str, list[Waiting]] = {}
        kept = 0
        for place, (entry, host) in enumerate(due):
            lane = lanes.setdefault(host or "", [])
            if entry not in self._under_way and len(lane) < (LANE_KEPT if host else KEPT):
                lane.append(Waiting(place, *entry, host or ""))
                kept += 1
            if kept == KEPT:
                break
        # Whoever was to be served next still is.
        self._lanes = {host: lanes[host] for host in (*self._lanes, *lanes) if lanes.get(host)}

    def take(self, *, now: float) -> Waiting | None:
        """Take the next delivery that may begin, which is under way then; None if there is none."""
        for host, lane in self._lanes.items():
            if host and not self._has_room(host, now):
                continue
            for number, waiting in enumerate(lane):
                if self._may_go(f"job:{waiting.job_id}", now):
                    del lane[number], self._lanes[host]
                    if lane:
                        self._lanes[host] = lane  # behind the others
                    self._under_way[waiting.entry] = host
                    self._at_host[host] += 1
                    return waiting
        return None

    def route(self, waiting: Waiting, host: str, *, now: float) -> bool:
        """Say where a delivery that is under way goes to; False if it has to wait for that host."""
        if waiting.host == host:
            return True
        has_room = self._has_room(host, now)
        if has_room:
            self.end(waiting)
            self._under_way[waiting.entry] = host
            self._at_host[host] += 1
        return has_room

    def pause(self, what: str, *, until: float) -> None:
        """Let a host wait (`host:<host>`), or the deliveries of a job (`job:<job_id>`)."""
        self._paused[what] = until

    def end(self, waiting: Waiting) -> None:
        """Note that a delivery is under way no more."""
        host = self._under_way.pop(waiting.entry)
        self._at_host[host] -= 1
        if not self._at_host[host]:
            del self._at_host[host]

    def put_back(self, waiting: Waiting, host: str) -> None:
        """End a delivery that has to wait, and give it its place in the lane of its host."""
        self.end(waiting)
        insort(self._lanes.setdefault(host, []), replace(waiting, host=host))

    def _has_room(self, host: str, now: float) -> bool:
        return self._at_host[host] < self._at_once and self._may_go(f"host:{host}", now)

    def _may_go(self, what: str, now: float) -> bool:
        return self._paused.get(what, now) <= now
