"""Waits out an object store that is away, while the lease is kept and what was made stays on the scratch disk."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from unmix.errors import StoreError
from unmix.runtime.heartbeat import Heartbeat
from unmix.runtime.shutdown import Shutdown
from unmix_worker.lease import Lease, Released

log = structlog.get_logger()

Result = TypeVar("Result")

#: Pauses between two tries, in seconds: they double from the first to the last.
FIRST_PAUSE_SECONDS: Final = 0.5
LAST_PAUSE_SECONDS: Final = 8.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try again each time in one job, and what ends that early."""

    seconds: float
    lease: Lease
    shutdown: Shutdown
    heartbeat: Heartbeat

    def call(self, action: Callable[[], Result]) -> Result:
        """Return what `action` returns, tried again while the store is away. It must be safe to repeat.

        Raises:
            StoreError: the store refuses, or was away for too long.
            LeaseLostError: somebody else owns the job now.
            Released: the worker has to stop first.
        """
        deadline = time.monotonic() + self.seconds
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            self.heartbeat.beat()
            try:
                return action()
            except StoreError as error:
                if not error.retryable or time.monotonic() + pause_seconds > deadline:
                    raise
                log.warning("store away", code=error.code, error=error.message)
            self.lease.check()
            time.sleep(pause_seconds)
            if self.shutdown.requested and self.shutdown.seconds_left <= LAST_PAUSE_SECONDS:
                raise Released
            pause_seconds = min(2 * pause_seconds, LAST_PAUSE_SECONDS)
