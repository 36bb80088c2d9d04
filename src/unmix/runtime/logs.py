"""Logs: one structured line per state change on standard output, and on the contract's Redis list `logging`.

The list is what `kubectl logs deploy/logs` shows of all services together. It is a convenience: a line that Redis does
not take is dropped there, and nothing ever waits for it. Neither audio nor secrets belong into a line.
"""

import contextlib
import logging
import platform
import queue
import sys
import threading
from typing import Final, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

from unmix.errors import QueueError
from unmix.queue.job_queue import JobQueue
from unmix.settings import Settings

#: Lines that wait for Redis at most; more are dropped.
BACKLOG_LINES: Final = 1000
#: Longest line there; standard output has all of it.
LINE_CHARACTERS: Final = 4000
#: The line of a request: they are too many for the list, and stand on standard output alone.
REQUEST: Final = "request"


def configure_logs(service: str, settings: Settings, job_queue: JobQueue | None = None) -> None:
    """Set up logging for this process; with `job_queue` each line goes to the list `logging` too."""
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,  # the job that this thread is about
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if job_queue is not None and settings.log_list_max:
        processors.append(_ListShipper(service, job_queue, settings.log_list_max))
    processors += [
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"], drop_missing=True),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Patient(sys.stdout))),
        cache_logger_on_first_use=True,
    )


class _Patient:
    """Standard output, on which nothing fails: its disk may be full, and what is logged has to go on all the same."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()


class _ListShipper:
    """A processor that copies each line to Redis from a thread of its own, as `<node>.<service>.<level>:<message>`."""

    def __init__(self, service: str, job_queue: JobQueue, max_lines: int) -> None:
        self._origin = f"{platform.node()}.{service}"
        self._job_queue = job_queue
        self._max_lines = max_lines
        self._backlog: queue.Queue[str] = queue.Queue(BACKLOG_LINES)
        threading.Thread(target=self._ship, name="logging-list", daemon=True).start()

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if event["event"] == REQUEST:
            return event
        details = "".join(
            f" {key}={value}" for key, value in event.items() if key not in ("event", "level", "timestamp")
        )
        with contextlib.suppress(queue.Full):  # Redis has been away for a while; standard output has the line
            self._backlog.put_nowait(f"{self._origin}.{event['level']}:{event['event']}{details}"[:LINE_CHARACTERS])
        return event

    def _ship(self) -> None:
        while True:
            line = self._backlog.get()
            try:
                self._job_queue.log_list.push(line, max_lines=self._max_lines)
            except QueueError:
                continue
