"""Presence: says that a worker is there and what it does, every few seconds and at each change, and why it ends."""

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import structlog

from unmix.errors import QueueError, UnmixError
from unmix.queue.attendance import NOTE_SECONDS, Attendance
from unmix.queue.records import WorkerState

log = structlog.get_logger()

#: Pause between two looks at what the worker does, in seconds: who has loaded its model is told as ready at once.
LOOK_SECONDS: Final = 0.2


class Presence:
    """One worker among those that are there, for as long as the context is open.

    It is for people and for whoever takes workers away, and nothing depends on it: where Redis is away, or refuses it,
    the worker goes on. Unlike the heartbeat it goes on when the worker hangs, too.
    """

    def __init__(self, attendance: Attendance, worker: str, host: str, state: Callable[[], WorkerState]) -> None:
        self._attendance = attendance
        self._worker = worker
        self._host = host
        self._state = state
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._note, name="presence", daemon=True)

    def _note(self) -> None:
        is_told = True
        noted: WorkerState | None = None
        noted_at = -math.inf  # monotonic seconds
        while True:
            state = self._state()
            if state is not noted or time.monotonic() - noted_at >= NOTE_SECONDS:
                is_told = self._tell(state, was_told=is_told)
                noted, noted_at = state, time.monotonic()
            if self._closed.wait(LOOK_SECONDS):
                return

    def _tell(self, state: WorkerState, *, was_told: bool) -> bool:
        """Say what the worker does, and return whether anybody heard it."""
        try:
            self._attendance.note(self._worker, self._host, state)
        except QueueError as error:
            if was_told:  # once: the worker itself says that Redis is away
                log.warning("nobody is told of this worker", code=error.code, error=error.message)
            return False
        return True

    def __enter__(self) -> Self:
        with suppress(QueueError):
            self._attendance.arrive(self._worker, self._host)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        code, message = (error.code, error.message) if isinstance(error, UnmixError) else (None, None)
        if error is None or isinstance(error, UnmixError):
            with suppress(QueueError):
                self._attendance.leave(self._worker, code=code, error=message)
