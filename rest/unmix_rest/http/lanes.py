"""Lanes of threads: what takes long waits for its like, so that the rest is answered at once.

Uploads wait in a line in which no client is ahead of the others, however many it has sent at once.
`unmix_rest.routes.table` says which route has which lane.
"""

import sys
import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

from waitress.task import Task, ThreadedTaskDispatcher

from unmix.audio.turns import Line
from unmix_rest.http.clients import client_of

#: In the environment of a request: whether it may hold its thread for as long as it likes. Other servers say nothing.
MAY_STAY: Final = "unmix.may_stay"
#: Likewise: a function that returns when at most so many bytes wait, and raises as writing does if they never will.
WAIT_TO_SEND: Final = "unmix.wait_to_send"
#: Likewise: a function that tells whether an answer of so many bytes may be kept for its client, if it may not stay.
HAS_ROOM: Final = "unmix.has_room"


#: Uploads of one client that may hold threads at once: two are checked while the next one is read.
UPLOADS_OF_A_CLIENT: Final = 3
#: Threads for each song that may be read at once: most of them wait for the check, and cost next to nothing. With one
#: for each, a few clients with costly songs had all of them, and whoever came next waited for their checks to end.
_THREADS_A_READER: Final = 4


def readers(threads: int) -> int:
    """Return how many songs are read at once where so many threads answer: half of them, so that the rest answers."""
    return max(1, threads // 2)


class Lane(Enum):
    """Who waits with whom."""

    QUICK = auto()
    UPLOADS = auto()  # a song comes with the request, and is checked before the answer
    STAYING = auto()  # the client waits for what is going to happen, or the answer for the client


class Lanes(ThreadedTaskDispatcher):
    """Groups of threads: one for uploads, one that grows with those who stay, and this one for everything else.

    When all of those are taken that may stay, whoever else would like to is answered at once, by another lane.
    """

    def __init__(self, threads: int, staying: int, lanes_of: Callable[[Any], tuple[Lane, ...]]) -> None:
        """Share `threads` out; `staying` more come when they are needed, and more than their share wait for the check.

        `lanes_of` is asked with each request, as waitress has read it, and names its lanes, the best one first.
        """
        super().__init__()
        self._lanes_of = lanes_of
        self._uploads = _FairThreads()
        self._uploads.set_thread_count(_THREADS_A_READER * readers(threads))
        self.set_thread_count(max(1, threads - threads // 2))
        self._staying = ThreadedTaskDispatcher()
        self._most_staying = staying
        self._count_staying = 0
        self._counting = threading.Lock()

    def add_task(self, task: Any) -> None:
        """Queue a connection whose next request is complete."""
        request = task.requests[0]
        lanes = (Lane.QUICK,) if request.error is not None else self._lanes_of(request)
        if Lane.STAYING in lanes and self._let_stay():
            request.may_stay = True
            self._staying.add_task(_Staying(task, self._has_left))
        elif Lane.UPLOADS in lanes:
            self._uploads.add_task(_Upload(task, client_of(task, request), self._uploads))
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: int = 5) -> bool:
        """End the threads; each lane has `timeout` seconds for it."""
        self._uploads.shutdown(cancel_pending, timeout)
        self._staying.shutdown(cancel_pending, timeout)
        return super().shutdown(cancel_pending, timeout)

    def _let_stay(self) -> bool:
        with self._counting:
            if self._count_staying == self._most_staying:
                return False
            known = set(self._staying.threads)
            if len(known) == self._count_staying:
                try:
                    self._staying.set_thread_count(len(known) + 1)
                except RuntimeError:  # the system gives no more threads; waitress has counted it already
                    self._staying.threads.intersection_update(known)
                    return False
            self._count_staying += 1
            return True

    def _has_left(self) -> None:
        with self._counting:
            self._count_staying -= 1


class _FairThreads(ThreadedTaskDispatcher):
    """A group of threads whose tasks are taken in the order of a `Line`."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Any = _FairQueue()  # waitress uses four methods of its deque

    def has_ended(self, task: "_Upload") -> None:
        """Note that a client may have another thread."""
        with self.lock:
            self.queue.end(task)

    def shutdown(self, cancel_pending: bool = True, timeout: int = 5) -> bool:
        """End the threads, and cancel what waits, whoever's it is."""
        with self.lock:
            self.queue.give_up_order()
        return super().shutdown(cancel_pending, timeout)


class _FairQueue:
    """What waits for threads, so much of it as may begin now."""

    def __init__(self) -> None:
        self._line: Line[_Upload] = Line(UPLOADS_OF_A_CLIENT)

    def __len__(self) -> int:
        return len(self._line.may_begin())

    def append(self, task: "_Upload") -> None:
        self._line.add(task.client, task)

    def popleft(self) -> "_Upload":
        task = self._line.next()
        if task is None:
            raise IndexError("nothing may begin")
        return task

    def end(self, task: "_Upload") -> None:
        self._line.end(task.client)

    def give_up_order(self) -> None:
        self._line.each = sys.maxsize


class _Upload(Task):
    """A connection whose request brings a song, and whose it is."""

    def __init__(self, task: Any, client: str, threads: _FairThreads) -> None:  # of a task only this much is used
        self._task = task
        self.client = client
        self._threads = threads

    def service(self) -> None:
        try:
            self._task.service()
        finally:
            self._threads.has_ended(self)

    def cancel(self) -> None:
        self._task.cancel()


class _Staying(Task):
    """A connection whose thread is free again when its request is answered."""

    def __init__(self, task: Any, has_left: Callable[[], None]) -> None:  # of a task only this much is used
        self._task = task
        self._has_left = has_left

    def service(self) -> None:
        try:
            self._task.service()
        finally:
            self._has_left()

    def cancel(self) -> None:
        self._task.cancel()
        self._has_left()
