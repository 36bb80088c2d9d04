"""Opens the queue and the store that the settings name, and waits for both at the start of a process.

Whoever opens one of them knows how to log in there, and keeps that to itself from then on (`secrecy`).
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from unmix.errors import QueueError, StoreError
from unmix.queue.job_queue import JobQueue, QueuePolicy
from unmix.runtime.secrecy import keep_files, keep_secrets
from unmix.settings import Settings
from unmix.store.opening import open_store
from unmix.store.protocol import ObjectStore

log = structlog.get_logger()

Result = TypeVar("Result")

#: How long a process waits for its services before it ends with their error, in seconds.
PATIENCE_SECONDS: Final = 120
PAUSE_SECONDS: Final = 1.0


def connect_queue(settings: Settings) -> JobQueue:
    """Return the queue that `settings` name. Nothing is contacted yet."""
    keep_secrets()
    keep_files()
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
    keep_secrets()
    keep_files()
    return open_store(
        settings.store_url,
        access_key=settings.store_access_key.get_secret_value(),
        secret_key=settings.store_secret_key.get_secret_value(),
        bucket_prefix=settings.store_bucket_prefix,
        public_url=settings.store_public_url,
    )


def wait_for_services(queue: JobQueue, store: ObjectStore) -> None:
    """Return once Redis answers and the store is prepared. Services that start together meet refusals at first.

    Raises:
        QueueError, StoreError: the service refuses us, or was not there for `PATIENCE_SECONDS`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    wait_for_queue(queue.ping, deadline)
    wait_for_store(store, deadline)


def wait_for_queue(ask: Callable[[], Result], deadline: float | None = None) -> Result:
    """Return what `ask` returns, a call to the queue, once Redis answers.

    `deadline` is in monotonic seconds; without one it is in `PATIENCE_SECONDS`.

    Raises:
        QueueError: it refuses us, or was not there until then.
    """
    return _wait("redis", ask, "UNMIX_REDIS_URL and UNMIX_REDIS_PASSWORD", deadline)


def wait_for_store(store: ObjectStore, deadline: float | None = None) -> None:
    """Return once the store is prepared; `deadline` as in `wait_for_queue`.

    Raises:
        StoreError: it refuses us, or was not there until then.
    """
    _wait("object store", store.prepare, "UNMIX_STORE_URL, UNMIX_STORE_ACCESS_KEY and UNMIX_STORE_SECRET_KEY", deadline)


def _wait(service: str, ask: Callable[[], Result], settings: str, deadline: float | None) -> Result:
    """Ask a service until it answers; `settings` are what to look at if it does not."""
    if deadline is None:
        deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except (QueueError, StoreError) as error:
            refused = error.code in ("queue_denied", "store_denied") or not error.retryable
            if refused or time.monotonic() > deadline:
                message = f"{error.message}; see {settings}"
                raise type(error)(message, code=error.code, retryable=error.retryable) from error
            log.warning("waiting", service=service, error=error.message, see=settings)
            time.sleep(PAUSE_SECONDS)
