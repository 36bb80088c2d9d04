"""The janitor: all that is periodic, in one small always-on process beside REST.

It puts abandoned work back into the queue, delivers callbacks, makes Redis agree with the store, and removes what need
not be kept any more. Several janitors may run: a sweep is atomic, a callback is delivered at least once anyway, and the
reconciler does nothing that could not be done twice.
"""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from types import FrameType
from typing import Final

import structlog

from unmix.callbacks import deliver
from unmix.connect import connect_queue, connect_store, wait_for_services
from unmix.errors import CallbackError, QueueError, StoreError
from unmix.job import Delivery, JobRequest
from unmix.job_queue import JobQueue
from unmix.ledger import Ledger, utc_now
from unmix.logs import configure_logs
from unmix.reconciler import Reconciler
from unmix.retention import Retention
from unmix.settings import Settings

log = structlog.get_logger()

#: Deliveries at once: a callback that never answers holds one of them for some seconds.
DELIVERY_THREADS: Final = 8


def run(settings: Settings) -> None:
    """Keep house until SIGTERM or SIGINT.

    Raises:
        QueueError, StoreError: a service refuses us, or was not there at the start.
        RuntimeError: the reconciler broke.
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
    ledger = Ledger(store, guard=queue)
    retention = Retention(queue, ledger, songs_hours=settings.keep_songs_hours, stems_days=settings.keep_stems_days)
    # Beside the sweeps, because a walk over a large store takes its time; it may end with the process at any step.
    reconciling = threading.Thread(
        target=_reconcile, args=(Reconciler(queue, ledger, retention), settings.reconcile_seconds, stop), daemon=True
    )
    reconciling.start()
    with Deliveries(settings, queue, ledger) as deliveries:
        while not stop.wait(settings.sweep_seconds):
            try:
                sweep(queue)
                deliveries.start_due()
            except QueueError as error:
                log.warning("queue away", error=error.message)
            # A bug, told by the thread's traceback: better started afresh than going on half.
            if not reconciling.is_alive() and not stop.is_set():
                raise RuntimeError("the reconciler has ended")


def _reconcile(reconciler: Reconciler, pause_seconds: float, stop: threading.Event) -> None:
    """Compare Redis with the store, at once and then again and again."""
    while True:
        try:
            done = asdict(reconciler.run())
            if any(done.values()):
                log.info("reconciled", **done)
        except (QueueError, StoreError) as error:
            log.warning("not reconciled", code=error.code, error=error.message)
        if stop.wait(pause_seconds):
            return


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
            # Submitted anew meanwhile: that finish will put it here again. Or Redis had lost that it is done.
            if outcome is None or str(index) in outcome.deliveries:
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
                self._put_off(request, index, error)
            else:
                tries = self._queue.callback_tries(job_id, index) + 1
                self._end(request, index, Delivery(True, utc_now(), tries))
                log.info("callback delivered", job_id=job_id, callback=index, tries=tries)
        except (QueueError, StoreError) as error:
            log.warning("callback waits", job_id=job_id, callback=index, error=error.message)
        finally:
            self._under_way.discard((job_id, index))

    def _put_off(self, request: JobRequest, index: int, error: CallbackError) -> None:
        job_id = request.job_id
        tries = self._queue.callback_failed(job_id, index, retry_seconds=self._settings.callback_retry_seconds)
        if not error.retryable or tries >= self._settings.callback_max_attempts:
            self._end(request, index, Delivery(False, utc_now(), tries, error.message))
            log.warning("callback given up", job_id=job_id, callback=index, tries=tries, error=error.message)
        else:
            log.warning("callback failed", job_id=job_id, callback=index, tries=tries, error=error.message)

    def _end(self, request: JobRequest, index: int, delivery: Delivery) -> None:
        """Note how a delivery ended, in the store first: what is not noted there is delivered again."""
        self._ledger.note_delivery(request.job_id, request.generation, index, delivery)
        self._queue.callback_over(request.job_id, index)

    def __enter__(self) -> "Deliveries":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
