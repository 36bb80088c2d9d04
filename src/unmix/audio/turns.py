"""Turns: who of many clients may do next what costs much, so that no client holds up the others.

`Line` is the order alone: whoever has least under way comes first, then whoever has waited longest since the last turn.
`Turns` hands them out to threads. While a client is alone it may have all of them; when another one comes, the surplus
is asked back, so that nobody waits for more than what a client has under way as its only one.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

#: How often whoever waits, or has a turn, should look whether it still makes sense.
LOOK_SECONDS: Final = 0.1


class Line(Generic[Item]):
    """What waits, by client, of which each may have `each` under way. Not safe for threads by itself."""

    def __init__(self, each: int) -> None:
        self.each = each
        self._waiting: dict[str, deque[Item]] = {}
        self._under_way: Counter[str] = Counter()
        self._last_turn: dict[str, int] = {}
        self._turns = 0

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
        client = min(may_begin, key=lambda client: (self._under_way[client], self._last_turn.get(client, 0)))
        item = self._waiting[client].popleft()
        self._turns += 1
        self._last_turn[client] = self._turns
        self._under_way[client] += 1
        self._forget_idle(client)
        return item

    def end(self, client: str) -> None:
        """Note that something of a client is not under way any more."""
        self._under_way[client] -= 1
        self._forget_idle(client)

    def may_begin(self) -> list[str]:
        """Return the clients of whom something waits that may begin."""
        return [client for client in self._waiting if self._under_way[client] < self.each]

    def without_any(self) -> list[str]:
        """Return the clients of whom something waits and nothing is under way."""
        return [client for client in self._waiting if not self._under_way[client]]

    def with_several(self) -> list[str]:
        """Return the clients that have more than one thing under way, most first."""
        return [client for client, count in self._under_way.most_common() if count > 1]

    def _forget_idle(self, client: str) -> None:
        """Keep nothing of clients that have come and gone."""
        if not self._waiting.get(client):
            self._waiting.pop(client, None)
            if self._under_way[client] <= 0:
                del self._under_way[client]
                self._last_turn.pop(client, None)


@dataclass(eq=False, slots=True)
class Turn:
    """The right to go on, until it `is_asked_back`: then whoever has it should stop and ask for another one."""

    client: str
    is_asked_back: bool = False


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
                    self._line.end(client)
                else:
                    self._line.remove(client, turn)
                self._hand_out()

    def _is_given(self, turn: Turn) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: turn in self._given, timeout=LOOK_SECONDS)

    def _hand_out(self) -> None:
        while len(self._given) < self._at_once and (turn := self._line.next()):
            self._given.append(turn)
        self._ask_back(len(self._line.without_any()))
        self._changed.notify_all()

    def _ask_back(self, wanted: int) -> None:
        """Ask for as many turns back as there are clients that wait without any, as far as others have several."""
        for client in self._line.with_several():
            theirs = [turn for turn in self._given if turn.client == client]
            for turn in reversed(theirs[1:]):
                if wanted <= 0:
                    return
                turn.is_asked_back = True
                wanted -= 1
