"""Delivers what is due in the outbox: the end of each job to the callbacks of its request, several at once.

How fast is bounded, by host and by job, for all janitors together; how many go to one host at once, for this one. What
has to wait stays in the outbox, and `lanes` says what goes next.
"""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

import structlog

from unmix.callbacks.delivery import deliver
from unmix.callbacks.signing import Signer
from unmix.errors import CallbackError, QueueError, StoreError
from unmix.janitor.lanes import Lanes, Waiting
from unmix.janitor.periodic import hangs
from unmix.job import JobRequest
from unmix.ledger.callback_room import CALLBACKS_OF_ASKER
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outbound.address import host_of
from unmix.outcome import DamagedOutcome, Delivery, DeliveryState, Outcome
from unmix.queue.call_limits import CallRate
from unmix.queue.job_queue import JobQueue
from unmix.queue.outbox import FailedTry
from unmix.settings import Settings

log = structlog.get_logger()

#: Deliveries at once: a callback that never answers holds one of them for some seconds.
DELIVERY_THREADS: Final = 16
#: After a look at the outbox there is none for so many times as long as it took: where very much is due, it takes long.
LOOK_PAUSE: Final = 9


class Deliveries:
    """Delivers what is due in the outbox, several at once."""

    def __init__(self, settings: Settings, queue: JobQueue, ledger: Ledger) -> None:
        self._settings = settings
        self._queue = queue
        self._ledger = ledger
        self._signer = Signer(settings.webhook_secrets.get_secret_value())
        per_minute = settings.callback_host_per_minute
        # A host that was called too often is looked at again with the next sweep, and has then what came in meanwhile.
        at_once = max(1, math.ceil(per_minute / 60 * settings.sweep_seconds))
        self._host_rate = CallRate(per_minute, at_once)
        self._pool = ThreadPoolExecutor(DELIVERY_THREADS, thread_name_prefix="callback")
        self._lock = threading.Lock()  # of the lanes, and of what is under way
        self._lanes = Lanes(at_once=settings.callback_host_at_once)
        self._under_way: dict[tuple[str, int], float] = {}  # and since when
        self._next_look = -math.inf

    def start_due(self) -> None:
        """Start the deliveries that are due and may begin; each that ends starts the next."""
        began = time.monotonic()
        if began >= self._next_look:
            with self._lock:
                self._lanes.refill(self._queue.outbox.due_with_hosts(), now=began)
            self._next_look = time.monotonic() + LOOK_PAUSE * (time.monotonic() - began)
        self._start()

    def check(self) -> None:
        """Raise `RuntimeError` if a delivery hangs."""
        if any(hangs(since) for since in list(self._under_way.values())):
            raise RuntimeError("a callback's delivery hangs")

    def _start(self) -> None:
        with self._lock, suppress(RuntimeError):  # of a pool that takes nothing more: the janitor ends
            while len(self._under_way) < DELIVERY_THREADS:
                waiting = self._lanes.take(now=time.monotonic())
                if waiting is None:
                    return
                self._under_way[waiting.entry] = time.monotonic()
                self._pool.submit(self._run, waiting)

    def _run(self, waiting: Waiting) -> None:
        job_id, index = waiting.entry
        waits_for = None
        try:
            waits_for = self._deliver(waiting)
        except (QueueError, StoreError) as error:
            log.warning("callback waits", job_id=job_id, callback=index, error=error.message)
            if not error.retryable:
                self._make_way(job_id, index)
        except Exception:
            log.exception("callback broke", job_id=job_id, callback=index)  # a bug, which the pool would keep to itself
            self._make_way(job_id, index)
        finally:
            with self._lock:
                del self._under_way[waiting.entry]
                if waits_for is None:
                    self._lanes.end(waiting)
                else:
                    self._lanes.put_back(waiting, waits_for)
            self._start()

    def _deliver(self, waiting: Waiting) -> str | None:
        """Make one try; return the host that it has to wait for, if it was not its turn."""
        job_id, index = waiting.entry
        request = self._ledger.request(job_id)
        if request is None or index >= len(request.callbacks):
            self._queue.outbox.end(job_id, index)  # the job was removed
            return None
        outcome = self._ledger.outcome(request)
        # Submitted anew meanwhile: that finish will put it here again. Or Redis had lost that it is done.
        is_noted = isinstance(outcome, DamagedOutcome) or (outcome and str(index) in outcome.deliveries)
        if outcome is None or is_noted:  # in a damaged outcome no delivery can be noted
            self._queue.outbox.end(job_id, index)
            return None
        if not request.callbacks[index].wants(outcome.status):
            self._end(request, index, Delivery(False, utc_now(), 0, state=DeliveryState.UNWANTED))
            return None
        host = host_of(request.callbacks[index].url)
        if not self._is_its_turn(waiting, host, self._job_rate(request)):
            if host != waiting.host:
                self._queue.outbox.note_host(job_id, index, host)
            return host
        self._try(request, index, outcome)
        return None

    def _job_rate(self, request: JobRequest) -> CallRate:
        """Return how often a job's callbacks are sent: so often for each who asked for some."""
        askers = len({callback.asker for callback in request.callbacks})
        return CallRate(askers * self._settings.callback_job_per_minute, askers * CALLBACKS_OF_ASKER)

    def _is_its_turn(self, waiting: Waiting, host: str, job_rate: CallRate) -> bool:
        """Tell whether host and job may be called now, and count that they are; if not, let them wait."""
        with self._lock:
            if not self._lanes.route(waiting, host, now=time.monotonic()):
                return False
        waits = self._queue.calls.take({f"host:{host}": self._host_rate, f"job:{waiting.job_id}": job_rate})
        with self._lock:
            for what, seconds in waits.items():
                self._lanes.pause(what, until=time.monotonic() + seconds)
        return not waits

    def _try(self, request: JobRequest, index: int, outcome: Outcome) -> None:
        job_id = request.job_id
        fields = {
            "hash": job_id,
            "songhash": request.song_hash,
            "status": outcome.status.value,
            "tracks": sorted(outcome.stems),
        }
        try:
            status = deliver(
                request.callbacks[index],
                fields,
                allow=self._settings.callback_allow,
                delivery_id=f"{job_id}-{request.generation}-{index}".replace(".", "-"),
                signer=self._signer,
            )
        except CallbackError as error:
            self._put_off(request, index, error)
        else:
            tries = self._queue.outbox.tries(job_id, index) + 1
            end = Delivery(True, utc_now(), tries, http_status=status, state=DeliveryState.DELIVERED)
            self._end(request, index, end)
            log.info("callback delivered", job_id=job_id, callback=index, tries=tries)

    def _put_off(self, request: JobRequest, index: int, error: CallbackError) -> None:
        job_id, now = request.job_id, utc_now()
        tries = self._queue.outbox.put_off(
            job_id,
            index,
            retry_seconds=self._settings.callback_retry_seconds,
            least_seconds=error.retry_after_seconds,
            failed=FailedTry(now, error.message, error.http_status),
        )
        if not error.retryable or tries >= self._settings.callback_max_attempts:
            state = DeliveryState.GONE if error.code == "callback_gone" else DeliveryState.GIVEN_UP
            self._end(request, index, Delivery(False, now, tries, error.message, error.http_status, state))
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
