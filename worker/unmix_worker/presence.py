"""Presence: says every few seconds that a worker is there and what it does, and at its end why it ends."""

import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import structlog

from unmix.errors import QueueError, UnmixError
from unmix.queue.attendance import NOTE_SECONDS, Attendance
from unmix.queue.records import WorkerState

log = structlog.get_logger()


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
        while True:
            try:
                self._attendance.note(self._worker, self._host, self._state())
                is_told = True
            except QueueError as error:
                if is_told:  # once: the worker itself says that Redis is away
                    log.warning("nobody is told of this worker", code=error.code, error=error.message)
                is_told = False
            if self._closed.wait(NOTE_SECONDS):
                return

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
