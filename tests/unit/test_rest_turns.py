"""Turns: no client holds up the others, and one that is alone has all of them."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from support import eventually
from unmix.audio.turns import MOST_REMEMBERED, Line, Turn, Turns


class Asker:
    """A thread that waits for a turn and has it until it is told to `end`."""

    def __init__(self, turns: Turns, client: str) -> None:
        self.turn: Turn | None = None
        self._turns = turns
        self._client = client
        self._may_end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def has_turn(self) -> bool:
        return self.turn is not None

    def end(self) -> None:
        self._may_end.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        with self._turns.take(self._client) as turn:
            self.turn = turn
            self._may_end.wait(timeout=60)


@contextmanager
def asking(turns: Turns, *clients: str) -> Iterator[list[Asker]]:
    with ExitStack() as stack:
        askers = [Asker(turns, client) for client in clients]
        for asker in askers:
            stack.callback(asker.end)
        yield askers


def order(line: Line[str]) -> list[str]:
    """Take what waits, each ended before the next is taken."""
    taken = []
    while item := line.next():
        taken.append(item)
        line.end(item.rstrip("1234"))
    return taken


def test_clients_take_turns_however_much_one_of_them_has_waiting() -> None:
    line: Line[str] = Line(2)
    for item in ("a1", "a2", "a3", "a4", "b1", "c1", "b2"):
        line.add(item[0], item)
    assert order(line) == ["c1", "b1", "a1", "b2", "a2", "a3", "a4"]


def test_whoever_has_least_under_way_comes_first_and_nobody_has_more_than_each_may() -> None:
    line: Line[str] = Line(2)
    for item in ("a1", "a2", "a3"):
        line.add("a", item)
    assert [line.next(), line.next(), line.next()] == ["a1", "a2", None]
    line.add("b", "b1")
    assert line.next() == "b1"
    line.end("a")
    assert line.next() == "a3"


def test_whoever_has_used_least_comes_first_also_after_it_was_away() -> None:
    line: Line[str] = Line(1)
    for client, cost in (("costly", 6.0), ("quick", 0.5)):
        line.add(client, client)
        line.next()
        line.end(client, cost)
    for client in ("costly", "quick", "new"):
        line.add(client, client)
    assert order(line) == ["new", "quick", "costly"]


def test_little_is_kept_of_clients_that_have_come_and_gone() -> None:
    line: Line[str] = Line(1)
    for number in range(2 * MOST_REMEMBERED):
        line.add(str(number), "x")
        line.next()
        line.end(str(number))
    kept = {name: value for name, value in vars(line).items() if name != "each" and value}
    assert kept.keys() == {"_used"}
    assert len(kept["_used"]) == MOST_REMEMBERED


def test_a_client_alone_has_all_turns_and_gives_one_back_when_another_comes() -> None:
    turns = Turns(2, each=2)
    with asking(turns, "a", "a") as (first, second):
        eventually(lambda: first.has_turn() and second.has_turn(), "both have their turn")
        with asking(turns, "b") as (other,):
            asked = eventually(
                lambda: [each for each in (first, second) if each.turn and each.turn.is_asked_back], "one is asked back"
            )
            assert len(asked) == 1
            assert not other.has_turn()
            asked[0].end()
            eventually(other.has_turn, "the other has a turn")
            with asking(turns, "c"):
                kept = first if asked[0] is second else second
                assert kept.turn is not None
                assert not kept.turn.is_asked_back, "nobody has more than one now"
                kept.end()  # so that the last one has its turn too, and comes to its end


def test_of_turns_that_began_long_ago_all_but_the_oldest_are_asked_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmix.audio.turns.SURE_SECONDS", 600)
    turns = Turns(3, each=1)
    with asking(turns, "a") as (oldest,):
        eventually(oldest.has_turn, "it has its turn")
        with asking(turns, "b", "c") as others:
            eventually(lambda: all(each.has_turn() for each in others), "all have theirs")
            with asking(turns, "d") as (last,):
                assert not any(each.turn and each.turn.is_asked_back for each in others)
                monkeypatch.setattr("unmix.audio.turns.SURE_SECONDS", 0)
                begun, preparing = others
                assert begun.turn is not None
                begun.turn.begin()
                asked = eventually(
                    lambda: [each for each in others if each.turn and each.turn.is_asked_back], "one is asked back"
                )
                assert asked == [begun]
                begun.end()
                eventually(last.has_turn, "the last one has a turn")
                for each in (oldest, preparing):
                    assert each.turn is not None
                    assert not each.turn.is_asked_back


def test_whoever_gives_up_waits_no_more() -> None:
    turns = Turns(1, each=1)

    def give_up() -> None:
        raise InterruptedError

    with asking(turns, "a") as (first,):
        eventually(first.has_turn, "it has its turn")
        with pytest.raises(InterruptedError), turns.take("b", give_up):
            pass
    with turns.take("c"):
        pass
