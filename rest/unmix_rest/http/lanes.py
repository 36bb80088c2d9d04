"""Lanes of threads: what takes long waits for its like, so that the rest is answered at once.

`unmix_rest.routes.table` says which route has which lane.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from waitress.task import ThreadedTaskDispatcher


class Lane(Enum):
    """Who waits with whom."""

    QUICK = auto()
    UPLOADS = auto()  # a song comes with the request, and is checked before the answer


class Lanes(ThreadedTaskDispatcher):
    """Two groups of threads: one for uploads, and this one for everything else."""

    def __init__(self, threads: int, lane_of: Callable[[str, str], Lane]) -> None:
        """Share `threads` out; `lane_of` is asked with the method and the path of each request."""
        super().__init__()
        self._lane_of = lane_of
        self._uploads = ThreadedTaskDispatcher()
        self._uploads.set_thread_count(max(1, threads // 2))
        self.set_thread_count(max(1, threads - threads // 2))

    def add_task(self, task: Any) -> None:
        """Queue a connection whose next request is complete."""
        request = task.requests[0]
        if request.error is None and self._lane_of(request.command.upper(), request.path) is Lane.UPLOADS:
            self._uploads.add_task(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: int = 5) -> bool:
        """End the threads; each lane has `timeout` seconds for it."""
        self._uploads.shutdown(cancel_pending, timeout)
        return super().shutdown(cancel_pending, timeout)
