"""The reconciler: makes Redis agree with the store again, whatever was lost or left half done.

The store is the ledger: a request without an outcome of its generation is owed, and one with it is over. Redis may have
forgotten either: after FLUSHALL, on a lost volume, after a failover, or when a consumer popped a job and died. A pass
looks at the jobs that are marked as open (`unmix.ledger.open_marks`), however many were ever separated; the audit finds
what has lost its mark. Nothing is done before it was seen in two passes, because what is on its way looks the same; and
what is then done is safe also if it was on its way after all: a job is queued only if it is in no key, decided inside
Redis.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from unmix import names
from unmix.errors import QueueError, StoreError
from unmix.job import DamagedRequest, JobRequest, JobStatus
from unmix.ledger.inventory import StoredJob, marked_job
from unmix.ledger.ledger import Ledger
from unmix.outcome import DamagedOutcome, Outcome
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import QueueSnapshot

log = structlog.get_logger()

_MISSING: Final = "open, but not in the queue"
_STILL_OPEN: Final = "over, but still in the queue"
_UNKNOWN: Final = "known to Redis alone"


@dataclass(slots=True)
class Reconciled:
    """How many jobs a pass mended, by what was wrong."""

    requeued: int = 0
    settled: int = 0
    published: int = 0
    callbacks: int = 0
    forgotten: int = 0
    orphans: int = 0  # files of attempts that can never win
    unmended: int = 0  # jobs that the store refuses


class Reconciler:
    """Compares store and Redis, one pass per `run`. Several may run: what they do can be done twice."""

    def __init__(self, queue: JobQueue, ledger: Ledger) -> None:
        self._queue = queue
        self._ledger = ledger
        self._suspects: set[tuple[str, ...]] = set()  # what was wrong in the last pass
        self._seen: set[tuple[str, ...]] = set()  # what is wrong in this one
        self.marks = 0  # that the last pass has seen

    def run(self, on_step: Callable[[], None] = lambda: None) -> Reconciled:
        """Make one pass over all open jobs; `on_step` is called at each, as a sign of progress.

        Raises:
            QueueError, StoreError: one of them is away; what was mended until then is mended.
        """
        done = Reconciled()
        self._seen = set()
        snapshot = self._queue.views.snapshot()
        marked: set[str] = set()
        owed: list[JobRequest] = []
        for mark in self._ledger.inventory.open_marks():
            on_step()
            job_id = marked_job(mark)
            marked.add(job_id)
            with self._one_at_a_time(job_id, done):
                if job_id in snapshot.present:
                    self._settle_if_over(job_id, done)
                elif self._is_repeated(_MISSING, job_id, mark.etag):
                    request, outcome = self._ledger.end(job_id)
                    if request is not None and outcome is None:
                        owed.append(request)
                    else:
                        self._see_through(job_id, snapshot, done)
        self._requeue(owed, done, on_step)
        self._look_at_unmarked(snapshot, marked, done)
        self._suspects = self._seen
        self.marks = len(marked)
        return done

    def _settle_if_over(self, job_id: str, done: Reconciled) -> None:
        """End a job that waits or runs in Redis and is over in the store."""
        if not self._ledger.has_outcome(job_id):
            return
        request, outcome = self._ledger.end(job_id)
        if request and outcome and self._is_repeated(_STILL_OPEN, job_id, request.generation):
            done.settled += self._settle(request, outcome)

    def _see_through(self, job_id: str, snapshot: QueueSnapshot, done: Reconciled) -> None:
        """Do what is left to be done for a job that is over or was removed, and take its mark away if that is all.

        It is listed before its documents are read: nothing that was listed belongs to a submission after that.
        """
        listed = self._ledger.inventory.song(names.song_hash_of(job_id)).job(job_id)
        request, outcome = self._ledger.end(job_id)
        if request is None:
            done.orphans += self._ledger.removal.remove_leftovers(listed)
            self._queue.job_list.drop(job_id)
            self._forget(job_id, snapshot, done)
        elif outcome is None:
            return  # submitted again since
        else:
            self._note_damage(request, outcome)
            self._mend_over(listed, request, outcome, snapshot, done)
            if self._owes_callbacks(request, outcome):
                return
        self._ledger.open_marks.take_away(job_id)
        if self._ledger.end(job_id) != (request, outcome):
            self._ledger.open_marks.put(job_id, "changed while its mark was taken away")

    def _mend_over(
        self, listed: StoredJob, request: JobRequest, outcome: Outcome, snapshot: QueueSnapshot, done: Reconciled
    ) -> None:
        """Mend what is left of a job that is over."""
        job_id = request.job_id
        if job_id in snapshot.open:
            done.settled += self._settle(request, outcome)
        self._queue.job_list.note(request, outcome, is_certain=True)
        if isinstance(outcome, DamagedOutcome):  # what it says of files and callbacks is not known
            return
        done.orphans += self._ledger.removal.remove_losers(listed, outcome)
        kept = {info.name.key for info in listed.attempts}
        stems = [stem for stem, file in outcome.stems.items() if file.key in kept]
        if not {names.stem_object(job_id, stem, outcome.format).key for stem in stems} <= listed.copies:
            self._ledger.publish(outcome)
            done.published += 1
        if self._owes_callbacks(request, outcome):
            for index in range(len(request.callbacks)):
                if str(index) not in outcome.deliveries and (job_id, index) not in snapshot.outbox:
                    self._queue.outbox.owe(job_id, index)
                    done.callbacks += 1
        if outcome.status is JobStatus.FAILED:
            self._queue.note_failed(job_id, round(outcome.finished_at_seconds * 1000))

    def _owes_callbacks(self, request: JobRequest, outcome: Outcome) -> bool:
        """Tell whether a delivery is not noted; in a damaged outcome none can be."""
        return len(request.callbacks) > len(outcome.deliveries) and not isinstance(outcome, DamagedOutcome)

    def _settle(self, request: JobRequest, outcome: Outcome) -> bool:
        return self._queue.settle(
            request.job_id,
            request.generation,
            outcome.status,
            error_code=outcome.error_code,
            callbacks=len(request.callbacks),
        )

    def _note_damage(self, request: JobRequest, outcome: Outcome) -> None:
        """Name a document that cannot be read, in the log and for the metrics."""
        for name, is_damaged in (
            (names.request_object(request.job_id), isinstance(request, DamagedRequest)),
            (names.outcome_object(request.job_id), isinstance(outcome, DamagedOutcome)),
        ):
            if is_damaged:
                self._queue.note_damaged(str(name))
                log.error("document damaged", job_id=request.job_id, name=str(name))

    def _requeue(self, owed: list[JobRequest], done: Reconciled, on_step: Callable[[], None]) -> None:
        """Queue owed jobs, the oldest first, so that they are served in the order of their submission."""
        for request in sorted(owed, key=lambda request: request.submitted_at_seconds):
            on_step()
            with self._one_at_a_time(request.job_id, done):
                self._queue.job_list.note(request, is_certain=True)
                done.requeued += self._queue.requeue(
                    request.job_id,
                    request.generation,
                    callbacks=len(request.callbacks),
                    submitted_at_ms=round(request.submitted_at_seconds * 1000),
                )

    def _forget(self, job_id: str, snapshot: QueueSnapshot, done: Reconciled) -> None:
        """Drop what Redis alone takes for open: a foreign consumer took it, and it was removed since."""
        if job_id in snapshot.open:
            self._queue.forget(job_id)
            done.forgotten += 1

    def _look_at_unmarked(self, snapshot: QueueSnapshot, marked: set[str], done: Reconciled) -> None:
        """Look at what Redis takes for open and the store does not: it has lost its mark, or is forgotten."""
        for job_id in snapshot.open - snapshot.present - marked:
            with self._one_at_a_time(job_id, done):
                if not self._is_repeated(_UNKNOWN, job_id):
                    continue
                if self._ledger.request(job_id) is None:
                    self._forget(job_id, snapshot, done)
                else:
                    self._ledger.open_marks.put(job_id, "was open without a mark")

    @contextmanager
    def _one_at_a_time(self, job_id: str, done: Reconciled) -> Iterator[None]:
        """Let no single job keep the pass from the others."""
        try:
            yield
        except QueueError:
            raise
        except StoreError as error:
            if error.retryable:
                raise
            done.unmended += 1
            log.error("job not reconciled", job_id=job_id, code=error.code, error=error.message)
        except Exception:  # a bug, or a document that no check foresaw: the others are still served
            done.unmended += 1
            log.exception("job not reconciled", job_id=job_id)

    def _is_repeated(self, *suspect: str) -> bool:
        """Note that something is wrong; True if it was so in the last pass already."""
        self._seen.add(suspect)
        return suspect in self._suspects
