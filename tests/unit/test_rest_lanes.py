"""Lanes of threads: who may stay, also where the system gives no more threads."""

from typing import Any

import pytest
from waitress.task import ThreadedTaskDispatcher

from support import eventually
from unmix_rest.http.lanes import Lane, Lanes


class Asked:
    """A connection with one request, answered at once."""

    def __init__(self) -> None:
        self.error = None
        self.requests = [self]
        self.may_stay = False
        self.is_answered = False

    def service(self) -> None:
        self.is_answered = True

    def answered(self) -> bool:
        return self.is_answered


def test_whoever_finds_no_thread_is_answered_by_another_lane_and_the_next_may_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lanes = Lanes(2, 1, lambda _: (Lane.STAYING, Lane.QUICK))

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(ThreadedTaskDispatcher, "start_new_thread", refuse)
        for _ in range(3):
            unlucky = Asked()
            lanes.add_task(unlucky)
            eventually(unlucky.answered, "it is answered")
            assert not unlucky.may_stay
    lucky = Asked()
    lanes.add_task(lucky)
    eventually(lucky.answered, "it is answered")
    assert lucky.may_stay
    lanes.shutdown(timeout=1)
