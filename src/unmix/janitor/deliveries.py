"""Delivers what is due in the outbox: the end of each job to the callbacks of its request, several at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import structlog

from unmix.callbacks.delivery import deliver
from unmix.errors import CallbackError, QueueError, StoreError
from unmix.janitor.periodic import hangs
from unmix.job import DamagedOutcome, Delivery, JobRequest
from unmix.ledger.ledger import Ledger, utc_now
from unmix.queue.job_queue import JobQueue
from unmix.settings import Settings

log = structlog.get_logger()

#: Deliveries at once: a callback that never answers holds one of them for some seconds.
DELIVERY_THREADS: Final = 8


class Deliveries:
    """Delivers what is due in the outbox, several at once."""

    def __init__(self, settings: Settings, queue: JobQueue, ledger: Ledger) -> None:
        self._settings = settings
        self._queue = queue
        self._ledger = ledger
        self._pool = ThreadPoolExecutor(DELIVERY_THREADS, thread_name_prefix="callback")
        self._under_way: dict[tuple[str, int], float] = {}  # and since when

    def start_due(self) -> None:
        """Start the deliveries that are due and not under way."""
        for entry in self._queue.outbox.due(limit=DELIVERY_THREADS * 4):
            if entry not in self._under_way:
                self._under_way[entry] = time.monotonic()
                self._pool.submit(self._deliver, *entry)

    def check(self) -> None:
        """Raise `RuntimeError` if a delivery hangs."""
        if any(hangs(since) for since in list(self._under_way.values())):
            raise RuntimeError("a callback's delivery hangs")

    def _deliver(self, job_id: str, index: int) -> None:
        try:
            request = self._ledger.request(job_id)
            if request is None or index >= len(request.callbacks):
                self._queue.outbox.end(job_id, index)  # the job was removed
                return
            outcome = self._ledger.outcome(request)
            # Submitted anew meanwhile: that finish will put it here again. Or Redis had lost that it is done.
            is_noted = isinstance(outcome, DamagedOutcome) or (outcome and str(index) in outcome.deliveries)
            if outcome is None or is_noted:  # in a damaged outcome no delivery can be noted
                self._queue.outbox.end(job_id, index)
                return
            fields = {
                "hash": job_id,
                "songhash": request.song_hash,
                "status": outcome.status.value,
                "tracks": sorted(outcome.stems),
            }
            try:
                deliver(
                    request.callbacks[index],
                    fields,
                    allow=self._settings.callback_allow,
                    delivery_id=f"{job_id}-{request.generation}-{index}",
                )
            except CallbackError as error:
                self._put_off(request, index, error)
            else:
                tries = self._queue.outbox.tries(job_id, index) + 1
                self._end(request, index, Delivery(True, utc_now(), tries))
                log.info("callback delivered", job_id=job_id, callback=index, tries=tries)
        except (QueueError, StoreError) as error:
            log.warning("callback waits", job_id=job_id, callback=index, error=error.message)
            if not error.retryable:
                self._make_way(job_id, index)
        except Exception:
            log.exception("callback broke", job_id=job_id, callback=index)  # a bug, which the pool would keep to itself
            self._make_way(job_id, index)
        finally:
            del self._under_way[job_id, index]

    def _put_off(self, request: JobRequest, index: int, error: CallbackError) -> None:
        job_id = request.job_id
        tries = self._queue.outbox.put_off(job_id, index, retry_seconds=self._settings.callback_retry_seconds)
        if not error.retryable or tries >= self._settings.callback_max_attempts:
            self._end(request, index, Delivery(False, utc_now(), tries, error.message))
            log.warning("callback given up", job_id=job_id, callback=index, tries=tries, error=error.message)
        else:
            log.warning("callback failed", job_id=job_id, callback=index, tries=tries, error=error.message)

    def _make_way(self, job_id: str, index: int) -> None:
        """Put off what fails for no reason that will pass, or it would keep its place before all others."""
        with suppress(QueueError):
            self._queue.outbox.put_off(job_id, index, retry_seconds=self._settings.callback_retry_seconds)

    def _end(self, request: JobRequest, index: int, delivery: Delivery) -> None:
        """Note how a delivery ended, in the store first: what is not noted there is delivered again."""
        self._ledger.note_delivery(request.job_id, request.generation, index, delivery)
        self._queue.outbox.end(request.job_id, index)

    def __enter__(self) -> "Deliveries":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
