"""Turns: who of many clients may do next what costs much, so that no client holds up the others.

`Line` is the order alone: whoever has least under way comes first, then whoever has used least of late.
`Turns` hands them out to threads. While a client is alone it may have all of them; when another one comes, the surplus
is asked back. Where that is not enough, so is each turn but the oldest, `SURE_SECONDS` after it began: nobody has
to wait for the end of what costs much, and there is always something that comes to its end.
"""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

#: How often whoever waits, or has a turn, should look whether it still makes sense.
LOOK_SECONDS: Final = 0.1
#: A turn is had for so long for certain, which is enough for nearly everything that is honest.
SURE_SECONDS: Final = 2.0
#: What was used this long ago counts half.
_HALF_SECONDS: Final = 60.0
#: Of how many clients it is remembered what they have used, the last ones.
MOST_REMEMBERED: Final = 1000


class Line(Generic[Item]):
    """What waits, by client, of which each may have `each` under way. Not safe for threads by itself."""

    def __init__(self, each: int) -> None:
        self.each = each
        self._waiting: dict[str, deque[Item]] = {}
        self._under_way: Counter[str] = Counter()
        self._used: dict[str, tuple[float, float]] = {}  # how much, and when that was so; whoever ended last is last

    def add(self, client: str, item: Item) -> None:
        """Let `item` wait behind what else its client has waiting."""
        self._waiting.setdefault(client, deque()).append(item)

    def remove(self, client: str, item: Item) -> None:
        """Let `item` wait no more."""
        self._waiting[client].remove(item)
        self._forget_idle(client)

    def next(self) -> Item | None:
        """Return whose turn it is, which is under way from here on; None if nobody may begin."""
        may_begin = self.may_begin()
        if not may_begin:
            return None
        client = min(may_begin, key=self._rank)
        item = self._waiting[client].popleft()
        self._under_way[client] += 1
        self._forget_idle(client)
        return item

    def end(self, client: str, cost: float = 1.0) -> None:
        """Note that something of a client is not under way any more, and how much it has used."""
        used = self.used(client) + cost
        self._used.pop(client, None)
        self._used[client] = (used, time.monotonic())
        if len(self._used) > MOST_REMEMBERED:
            del self._used[next(iter(self._used))]
        self._under_way[client] -= 1
        self._forget_idle(client)

    def used(self, client: str) -> float:
        """Return how much a client has used of late."""
        used, at = self._used.get(client, (0.0, 0.0))
        return float(used * 0.5 ** ((time.monotonic() - at) / _HALF_SECONDS))

    def may_begin(self) -> list[str]:
        """Return the clients of whom something waits that may begin."""
        return [client for client in self._waiting if self._under_way[client] < self.each]

    def without_any(self) -> list[str]:
        """Return the clients of whom something waits and nothing is under way."""
        return [client for client in self._waiting if not self._under_way[client]]

    def with_several(self) -> list[str]:
        """Return the clients that have more than one thing under way, most first."""
        return [client for client, count in self._under_way.most_common() if count > 1]

    def _rank(self, client: str) -> tuple[int, float, int]:
        """Return what a client is behind others by: of those who have used nothing yet, who wants least comes first."""
        return self._under_way[client], self.used(client), len(self._waiting[client])

    def _forget_idle(self, client: str) -> None:
        """Keep no more of clients that have come and gone than what they have used."""
        if not self._waiting.get(client):
            self._waiting.pop(client, None)
            if self._under_way[client] <= 0:
                del self._under_way[client]


@dataclass(eq=False, slots=True)
class Turn:
    """The right to go on, until it `is_asked_back`: then whoever has it should stop and ask for another one."""

    client: str
    is_asked_back: bool = False
    given_at: float = field(default=0.0, init=False)  # by the monotonic clock
    begun_at: float = field(default=math.inf, init=False)

    def begin(self) -> None:
        """Have the time begin after which it may be asked back: what there was to prepare is nobody's fault."""
        self.begun_at = time.monotonic()


class Turns:
    """Up to `at_once` turns at the same time, `each` of them of one client. Safe for threads."""

    def __init__(self, at_once: int, *, each: int) -> None:
        self._at_once = at_once
        self._line: Line[Turn] = Line(each)
        self._given: list[Turn] = []  # the oldest first
        self._changed = threading.Condition()

    @contextmanager
    def take(self, client: str, go_on: Callable[[], None] = lambda: None) -> Iterator[Turn]:
        """Wait for a turn, and have it while the block runs; `go_on` is called meanwhile, and may raise to give up."""
        turn = Turn(client)
        with self._changed:
            self._line.add(client, turn)
            self._hand_out()
        try:
            while not self._is_given(turn):
                go_on()
            yield turn
        finally:
            with self._changed:
                if turn in self._given:
                    self._given.remove(turn)
                    self._line.end(client, cost=time.monotonic() - turn.given_at)
                else:
                    self._line.remove(client, turn)
                self._hand_out()

    def _is_given(self, turn: Turn) -> bool:
        with self._changed:
            is_given = self._changed.wait_for(lambda: turn in self._given, timeout=LOOK_SECONDS)
            self._ask_back()  # some may have had theirs for long enough now
            return is_given

    def _hand_out(self) -> None:
        while len(self._given) < self._at_once and (turn := self._line.next()):
            turn.given_at = time.monotonic()
            self._given.append(turn)
        self._ask_back()
        self._changed.notify_all()

    def _ask_back(self) -> None:
        """Ask for as many turns back as there are clients that wait without any."""
        waiting = self._line.without_any()
        wanted = len(waiting)
        least_used = min(map(self._line.used, waiting), default=0.0)
        for turn in dict.fromkeys([*self._surplus(), *self._long_had(least_used)]):
            if wanted <= 0:
                return
            turn.is_asked_back = True
            wanted -= 1

    def _surplus(self) -> Iterator[Turn]:
        """Yield the turns of each client but its oldest."""
        for client in self._line.with_several():
            theirs = [turn for turn in self._given if turn.client == client]
            yield from reversed(theirs[1:])

    def _long_had(self, least_used: float) -> Iterator[Turn]:
        """Yield the turns that were had for long enough, by clients that have used more than whoever waits.

        The oldest one is not among them: that one is had to the end.
        """
        for turn in self._given[1:]:
            seconds = time.monotonic() - turn.begun_at
            if seconds >= SURE_SECONDS and self._line.used(turn.client) + seconds > least_used:
                yield turn
