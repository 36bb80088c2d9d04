"""Live: whoever watches jobs is told of each change, by one reader of Redis, however many watch.

The reader asks for all watched jobs at once, a few times a second, and ends when nobody watches. Those that are over
are asked for in full only now and then: they stay as they are unless somebody submits or removes them. What comes while
a watcher is busy is put together: of each job that has changed it gets the newest of each state, not all that happened.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final, Self

import structlog

from unmix.errors import QueueError
from unmix.job import JobStatus
from unmix.queue.job_queue import JobQueue
from unmix.queue.pulses import JobPulse
from unmix_rest.eta import expected_seconds
from unmix_rest.promises import Promises

log = structlog.get_logger()

#: Pause between two looks at the watched jobs, in seconds.
LOOK_SECONDS: Final = 0.25
#: How many looks there are for one at what is dearer: places in the queue, parts, batches.
_DEAR_LOOKS: Final = 4
#: How many looks there are for one at all that is known of jobs that are over.
_LOOKS_AT_ENDS: Final = 20
#: Most jobs of which a watcher is told at once; it may be slow, and what it is told is not replaced any more.
_MOST_TOLD: Final = 100


class Watch:
    """What one watcher is to be told, of certain jobs or of those of a batch. It is a context, and watches in it."""

    def __init__(self, live: "Live", job_ids: Iterable[str], batch: str | None, tenant: str | None) -> None:
        self.job_ids = set(job_ids)
        self.batch = batch
        self.tenant = tenant  # whose batch it is; None: that of all of them
        self._live = live
        self._seen: dict[str, JobPulse] = {}
        self._changes: dict[str, dict[JobStatus, JobPulse]] = {}  # not told yet; of each job the oldest first
        self._has_ended = False
        self._condition = threading.Condition()

    def next(self, timeout_seconds: float) -> dict[str, list[JobPulse]] | None:
        """Wait for changes, and return how the jobs go that have changed; None if nobody is told any more.

        Of each job there is what it has come to since the last time, the newest of each state: so nothing is missed but
        what the next pulse says too, and what waits is bounded by how many jobs are watched. Those of very many come
        with the next calls, each in its turn.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._changes or self._has_ended, timeout_seconds)
            if self._has_ended:
                return None
            first = list(islice(self._changes, _MOST_TOLD))
            return {job_id: list(self._changes.pop(job_id).values()) for job_id in first}

    def watch_only(self, job_ids: Iterable[str]) -> None:
        """Watch these jobs from now on; what was known of others is forgotten, as batches may go on for ever."""
        with self._condition:
            self.job_ids = set(job_ids)
            for known in (self._seen, self._changes):
                for job_id in known.keys() - self.job_ids:
                    del known[job_id]

    def tell(self, pulses: Mapping[str, JobPulse]) -> None:
        """Note how the jobs go that are watched; only what has changed is told."""
        with self._condition:
            for job_id in self.job_ids & pulses.keys():
                pulse = pulses[job_id]
                if pulse != self._seen.get(job_id):
                    self._seen[job_id] = pulse
                    changes = self._changes.setdefault(job_id, {})
                    changes.pop(pulse.status, None)
                    changes[pulse.status] = pulse
            if self._changes:
                self._condition.notify()

    def end(self) -> None:
        """Wake the watcher for the last time."""
        with self._condition:
            self._has_ended = True
            self._condition.notify()

    def __enter__(self) -> Self:
        self._live.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.discard(self)


class Live:
    """The reader of one REST process."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()
        self._is_reading = False
        self._stop = threading.Event()
        self.promises = Promises()

    def watch(self, job_ids: Iterable[str] = (), *, batch: str | None = None, tenant: str | None = None) -> Watch:
        """Return a watch of these jobs, or of those of a batch, whichever it has of this tenant, or of all."""
        return Watch(self, job_ids, batch, tenant)

    def stop(self) -> None:
        """Tell nobody any more: the process ends."""
        self._stop.set()
        with self._lock:
            for watch in self._watches:
                watch.end()

    def add(self, watch: Watch) -> None:
        """Begin to tell `watch`."""
        with self._lock:
            if self._stop.is_set():
                watch.end()
            elif not self._is_reading:
                threading.Thread(target=self._read, name="live", daemon=True).start()
                self._is_reading = True  # not before: if there is no room for a thread, the next watcher tries again
            self._watches.add(watch)

    def discard(self, watch: Watch) -> None:
        """Tell `watch` nothing any more."""
        with self._lock:
            self._watches.discard(watch)

    def _read(self) -> None:
        looks = 0
        pulses: dict[str, JobPulse] = {}
        more: dict[str, JobPulse] = {}
        while not self._stop.is_set():
            with self._lock:
                watches = list(self._watches)
                if not watches:
                    self._is_reading = False
                    return
            try:
                if looks % _DEAR_LOOKS == 0:
                    self._look_at_batches(watches)
                known = pulses if looks % _LOOKS_AT_ENDS else {}
                pulses = self._pulses(set[str]().union(*(watch.job_ids for watch in watches)), known)
                if looks % _DEAR_LOOKS == 0 or any(_is_other(pulse, more.get(each)) for each, pulse in pulses.items()):
                    more = self._with_more(pulses)
                pulses = {job_id: _as_before(pulse, more[job_id]) for job_id, pulse in pulses.items()}
                for watch in watches:
                    watch.tell(pulses)
                self.promises.note(pulses, now=time.monotonic())
            except QueueError as error:
                log.warning("nobody can be told", error=error.message)
            except Exception:  # a bug must not leave all watchers in the dark for ever
                log.exception("watching broke")
            looks += 1
            self._stop.wait(LOOK_SECONDS)

    def _look_at_batches(self, watches: list[Watch]) -> None:
        watched = {(watch.batch, watch.tenant) for watch in watches if watch.batch}
        tenants = self._queue.job_list.tenants() if any(tenant is None for _, tenant in watched) else []
        members = {
            (batch, tenant): self._queue.pulses.of_batch(batch, tenants if tenant is None else [tenant])
            for batch, tenant in watched
        }
        for watch in watches:
            if watch.batch:
                watch.watch_only(members[watch.batch, watch.tenant])

    def _pulses(self, job_ids: set[str], known: Mapping[str, JobPulse]) -> dict[str, JobPulse]:
        """Return how jobs go; one that was `known` to be over and is not open again goes as it did."""
        over = {job_id for job_id in job_ids & known.keys() if known[job_id].status.is_over}
        over -= self._queue.pulses.open(over)
        return {job_id: known[job_id] for job_id in over} | self._queue.pulses.read(job_ids - over)

    def _with_more(self, pulses: dict[str, JobPulse]) -> dict[str, JobPulse]:
        """Return the pulses with what takes longer to find out."""
        queued = [job_id for job_id, pulse in pulses.items() if pulse.status is JobStatus.QUEUED]
        running = [job_id for job_id, pulse in pulses.items() if pulse.status is JobStatus.RUNNING]
        positions = self._queue.pulses.positions(queued)
        parts = self._queue.pulses.parts(running)
        ends: dict[str, float] = {}
        if queued or running:
            works = self._queue.pulses.work()
            models = {work.model for part in works for work in part.values()}
            ends = expected_seconds(*works, {model: self._queue.speeds.get(model) for model in models})
        return {
            job_id: replace(
                pulse,
                position=positions.get(job_id),
                parts=parts.get(job_id, (0, 0))[0],
                parts_there=parts.get(job_id, (0, 0))[1],
                eta_seconds=ends.get(job_id),
            )
            for job_id, pulse in pulses.items()
        }


def _is_other(pulse: JobPulse, known: JobPulse | None) -> bool:
    """Tell whether what was found out of a job a moment ago says nothing of it any more."""
    return known is None or (pulse.status, pulse.attempt) != (known.status, known.attempt)


def _as_before(pulse: JobPulse, known: JobPulse) -> JobPulse:
    """Return a pulse with what was found out of the job a moment ago."""
    return replace(
        pulse,
        position=known.position,
        parts=known.parts,
        parts_there=known.parts_there,
        eta_seconds=known.eta_seconds,
    )
