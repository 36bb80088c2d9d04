"""The janitor: all that is periodic, in one small always-on process beside REST.

It puts abandoned work back into the queue, delivers callbacks, makes Redis agree with the store, and removes what need
not be kept any more. Several janitors may run: a sweep is atomic, a callback is delivered at least once anyway, and the
reconciler does nothing that could not be done twice.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Final

import structlog

from unmix.callbacks.delivery import deliver
from unmix.errors import CallbackError, QueueError, StoreError
from unmix.janitor.reconciler import Reconciler
from unmix.janitor.retention import Retention
from unmix.job import Delivery, JobRequest
from unmix.ledger.ledger import Ledger, utc_now
from unmix.queue.job_queue import JobQueue
from unmix.runtime.connect import connect_queue, connect_store, wait_for_services
from unmix.runtime.heartbeat import Heartbeat
from unmix.runtime.logs import configure_logs
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings

log = structlog.get_logger()

#: Deliveries at once: a callback that never answers holds one of them for some seconds.
DELIVERY_THREADS: Final = 8
#: A delivery, or one song for the reconciler, takes seconds; what takes longer than this hangs.
HANGS_AFTER_SECONDS: Final = 900.0


def run(settings: Settings) -> None:
    """Keep house until SIGTERM or SIGINT; when a part has broken or hangs, end the process with status 1.

    Raises:
        QueueError, StoreError: a service refuses us, or was not there at the start.
    """
    queue, store = connect_queue(settings), connect_store(settings)
    configure_logs("janitor", settings, queue)
    wait_for_services(queue, store)
    shutdown = Shutdown()
    shutdown.listen()
    log.info("janitor ready")
    heartbeat = Heartbeat(settings.janitor_heartbeat)
    ledger = Ledger(store, guard=queue)
    stop = threading.Event()
    reconciling = Reconciling(settings, queue, ledger, stop)
    reconciling.start()
    with Deliveries(settings, queue, ledger) as deliveries:
        while not shutdown.wait(settings.sweep_seconds):
            try:
                sweep(queue)
                deliveries.start_due()
            except QueueError as error:
                log.warning("queue away", error=error.message)
            try:  # a bug: better started afresh than going on half
                reconciling.check()
                deliveries.check()
            except RuntimeError as error:
                log.error("janitor breaks off", error=str(error))
                os._exit(1)  # an orderly exit would wait for the delivery that hangs
            heartbeat.beat()
    stop.set()


class Reconciling:
    """Compares Redis with the store, at once and then again and again until `stop`.

    In a thread of its own, because a walk over a large store takes its time. It may end with the process at any step.
    """

    def __init__(self, settings: Settings, queue: JobQueue, ledger: Ledger, stop: threading.Event) -> None:
        songs_hours, stems_days = settings.keep_songs_hours, settings.keep_stems_days
        retention = Retention(queue, ledger, songs_hours=songs_hours, stems_days=stems_days)
        self._reconciler = Reconciler(queue, ledger, retention)
        self._pause_seconds = settings.reconcile_seconds
        self._stop = stop
        self._busy_since: float | None = None  # None in the pauses
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def check(self) -> None:
        """Raise `RuntimeError` if the thread has broken, which its traceback tells, or hangs."""
        if not self._thread.is_alive() and not self._stop.is_set():
            raise RuntimeError("the reconciler has ended")
        if _hangs(self._busy_since):
            raise RuntimeError("the reconciler hangs")

    def _run(self) -> None:
        while True:
            self._turn()
            try:
                done = asdict(self._reconciler.run(on_song=self._turn))
                if any(done.values()):
                    log.info("reconciled", **done)
            except (QueueError, StoreError) as error:
                log.warning("not reconciled", code=error.code, error=error.message)
            self._busy_since = None
            if self._stop.wait(self._pause_seconds):
                return

    def _turn(self) -> None:
        """Note that there is progress: a long walk is not one that hangs."""
        self._busy_since = time.monotonic()


def _hangs(busy_since: float | None) -> bool:
    return busy_since is not None and time.monotonic() - busy_since > HANGS_AFTER_SECONDS


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
        self._under_way: dict[tuple[str, int], float] = {}  # and since when

    def start_due(self) -> None:
        """Start the deliveries that are due and not under way."""
        for entry in self._queue.outbox.due(limit=DELIVERY_THREADS * 4):
            if entry not in self._under_way:
                self._under_way[entry] = time.monotonic()
                self._pool.submit(self._deliver, *entry)

    def check(self) -> None:
        """Raise `RuntimeError` if a delivery hangs."""
        if any(_hangs(since) for since in list(self._under_way.values())):
            raise RuntimeError("a callback's delivery hangs")

    def _deliver(self, job_id: str, index: int) -> None:
        try:
            request = self._ledger.request(job_id)
            if request is None or index >= len(request.callbacks):
                self._queue.outbox.end(job_id, index)  # the job was removed
                return
            outcome = self._ledger.outcome(request)
            # Submitted anew meanwhile: that finish will put it here again. Or Redis had lost that it is done.
            if outcome is None or str(index) in outcome.deliveries:
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
        except Exception:
            log.exception("callback broke", job_id=job_id, callback=index)  # a bug, which the pool would keep to itself
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

    def _end(self, request: JobRequest, index: int, delivery: Delivery) -> None:
        """Note how a delivery ended, in the store first: what is not noted there is delivered again."""
        self._ledger.note_delivery(request.job_id, request.generation, index, delivery)
        self._queue.outbox.end(request.job_id, index)

    def __enter__(self) -> "Deliveries":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
