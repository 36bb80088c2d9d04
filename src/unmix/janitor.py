"""The janitor: all that is periodic, in one small always-on process beside REST.

It puts abandoned work back into the queue and delivers callbacks. Several janitors may run: a sweep is atomic, and a
callback is delivered at least once anyway.
"""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Final

import structlog

from unmix.callbacks import deliver
from unmix.connect import connect_queue, connect_store, wait_for_services
from unmix.errors import CallbackError, QueueError, StoreError
from unmix.job_queue import JobQueue
from unmix.ledger import Ledger
from unmix.logs import configure_logs
from unmix.settings import Settings

log = structlog.get_logger()

#: Deliveries at once: a callback that never answers holds one of them for some seconds.
DELIVERY_THREADS: Final = 8


def run(settings: Settings) -> None:
    """Keep house until SIGTERM or SIGINT.

    Raises:
        QueueError, StoreError: a service refuses us, or was not there at the start.
    """
    queue, store = connect_queue(settings), connect_store(settings)
    configure_logs("janitor", settings, queue)
    wait_for_services(queue, store)
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    log.info("janitor ready")
    with Deliveries(settings, queue, Ledger(store)) as deliveries:
        while not stop.wait(settings.sweep_seconds):
            try:
                sweep(queue)
                deliveries.start_due()
            except QueueError as error:
                log.warning("queue away", error=error.message)


def sweep(queue: JobQueue) -> None:
    """Put back what is due or abandoned, and say so if there was any."""
    swept = queue.sweep()
    if swept.retries or swept.lapsed or swept.unclaimed:
        log.info("swept", retries=swept.retries, lapsed=swept.lapsed, unclaimed=swept.unclaimed)


class Deliveries:
    """Delivers what is due in the outbox, several at once."""

    def __init__(self, settings: Settings, queue: JobQueue, ledger: Ledger) -> None:
        self._settings = settings
        self._queue = queue
        self._ledger = ledger
        self._pool = ThreadPoolExecutor(DELIVERY_THREADS, thread_name_prefix="callback")
        self._under_way: set[tuple[str, int]] = set()

    def start_due(self) -> None:
        """Start the deliveries that are due and not under way."""
        for entry in self._queue.due_callbacks(limit=DELIVERY_THREADS * 4):
            if entry not in self._under_way:
                self._under_way.add(entry)
                self._pool.submit(self._deliver, *entry)

    def _deliver(self, job_id: str, index: int) -> None:
        try:
            request = self._ledger.request(job_id)
            if request is None or index >= len(request.callbacks):
                self._queue.callback_over(job_id, index)  # the job was removed
                return
            outcome = self._ledger.outcome(request)
            if outcome is None:  # submitted anew meanwhile: that finish will put it here again
                self._queue.callback_over(job_id, index)
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
                self._put_off(job_id, index, error)
            else:
                self._queue.callback_over(job_id, index)
                log.info("callback delivered", job_id=job_id, callback=index)
        except (QueueError, StoreError) as error:
            log.warning("callback waits", job_id=job_id, callback=index, error=error.message)
        finally:
            self._under_way.discard((job_id, index))

    def _put_off(self, job_id: str, index: int, error: CallbackError) -> None:
        tries = self._queue.callback_failed(job_id, index, retry_seconds=self._settings.callback_retry_seconds)
        if not error.retryable or tries >= self._settings.callback_max_attempts:
            self._queue.callback_over(job_id, index)
            log.warning("callback given up", job_id=job_id, callback=index, tries=tries, error=error.message)
        else:
            log.warning("callback failed", job_id=job_id, callback=index, tries=tries, error=error.message)

    def __enter__(self) -> "Deliveries":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
