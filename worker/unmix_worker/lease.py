"""Keeps a claim alive while its job is worked on, and answers whether it still holds."""

import threading
from types import TracebackType
from typing import Self

import structlog

from unmix.errors import LeaseLostError, QueueError
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim

log = structlog.get_logger()


class Released(Exception):
    """Raised to give a job back unfinished, because the worker has to stop first; no fault of anybody's."""


class Lease:
    """A claim renewed every `renew_seconds` while the context is open.

    Redis being away for a while does not end the lease: it may be renewed after, and a job that somebody else took
    meanwhile is decided by the commit in the store.
    """

    def __init__(self, queue: JobQueue, claim: Claim, renew_seconds: float) -> None:
        self.progress = 0.0  # 0..1, set by whoever works
        self._queue = queue
        self._claim = claim
        self._renew_seconds = renew_seconds
        self._lost: LeaseLostError | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def check(self) -> None:
        """Raise `LeaseLostError` if the last renewal found the token invalid."""
        if self._lost is not None:
            raise self._lost

    def _keep(self) -> None:
        while not self._closed.wait(self._renew_seconds):
            try:
                self._queue.renew(self._claim, progress=self.progress)
            except LeaseLostError as error:
                self._lost = error
                return
            except QueueError as error:
                log.warning("renewal failed", job_id=self._claim.job_id, error=error.message)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
