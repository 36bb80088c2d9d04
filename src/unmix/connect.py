"""Opens the queue and the store that the settings name, and waits for both at the start of a process."""

import time
from typing import Final

import structlog

from unmix.errors import QueueError, StoreError
from unmix.job_queue import JobQueue, QueuePolicy
from unmix.settings import Settings
from unmix.store import ObjectStore, open_store

log = structlog.get_logger()

#: How long a process waits for its services before it ends with their error, in seconds.
PATIENCE_SECONDS: Final = 120
PAUSE_SECONDS: Final = 1.0


def connect_queue(settings: Settings) -> JobQueue:
    """Return the queue that `settings` name. Nothing is contacted yet."""
    policy = QueuePolicy(
        lease_seconds=settings.lease_seconds,
        grace_seconds=settings.grace_seconds,
        retry_seconds=settings.retry_seconds,
        max_attempts=settings.max_attempts,
        max_crashes=settings.max_crashes,
    )
    return JobQueue(settings.redis_url, password=settings.redis_password.get_secret_value(), policy=policy)


def connect_store(settings: Settings) -> ObjectStore:
    """Return the store that `settings` name. Nothing is contacted yet.

    Raises:
        StoreError: the URL names no store that we know (`unknown_store`).
    """
    return open_store(
        settings.store_url,
        access_key=settings.store_access_key.get_secret_value(),
        secret_key=settings.store_secret_key.get_secret_value(),
    )


def wait_for_services(queue: JobQueue, store: ObjectStore) -> None:
    """Return once Redis answers and the store is prepared. Services that start together meet refusals at first.

    Raises:
        QueueError, StoreError: the service refuses us, or was not there for `PATIENCE_SECONDS`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    for name, ask in (("redis", queue.ping), ("object store", store.prepare)):
        while True:
            try:
                ask()
                break
            except (QueueError, StoreError) as error:
                refused = error.code in ("queue_denied", "store_denied") or not error.retryable
                if refused or time.monotonic() > deadline:
                    raise
                log.warning("waiting", service=name, error=error.message)
                time.sleep(PAUSE_SECONDS)
