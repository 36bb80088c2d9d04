"""The reconciler: makes Redis agree with the store again, whatever was lost or left half done.

The store is the ledger: a request without an outcome of its generation is owed, and one with it is over. Redis may have
forgotten either: after FLUSHALL, on a lost volume, after a failover, or when a consumer popped a job and died. Every
difference has to be seen in two passes before it is mended, because what is on its way looks the same; and what is then
done is safe also if it was on its way after all: a job is queued only if it is in no key, decided inside Redis. Files
that cannot count any more, those of losers and of removed jobs, go at first sight.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from unmix import names
from unmix.errors import StoreError
from unmix.janitor.retention import Retention
from unmix.job import JobRequest, JobStatus, Outcome
from unmix.ledger.ledger import Ledger, StoredJob, StoredSong
from unmix.queue.job_queue import JobQueue, QueueSnapshot

log = structlog.get_logger()

_MISSING: Final = "missing from the queue"
_STILL_OPEN: Final = "over, but still open"
_UNPUBLISHED: Final = "without its copies"
_UNDELIVERED: Final = "without its callback"
_UNKNOWN: Final = "open, but neither stored nor queued"


@dataclass(slots=True)
class Reconciled:
    """How many jobs a pass mended, by what was wrong."""

    requeued: int = 0
    settled: int = 0
    published: int = 0
    callbacks: int = 0
    forgotten: int = 0
    orphans: int = 0  # files of attempts that can never win
    retired: int = 0  # songs and jobs whose time was over


@dataclass(frozen=True, slots=True)
class _Documents:
    """The documents of a job as they were at these etags."""

    etags: tuple[str, str]
    request: JobRequest
    outcome: Outcome | None  # of the request's generation


class Reconciler:
    """Compares store and Redis, one pass per `run`. Several may run: what they do can be done twice."""

    def __init__(self, queue: JobQueue, ledger: Ledger, retention: Retention) -> None:
        self._queue = queue
        self._ledger = ledger
        self._retention = retention
        self._documents: dict[str, _Documents] = {}
        self._suspects: set[tuple[str, ...]] = set()  # what was wrong in the last pass
        self._seen: set[tuple[str, ...]] = set()  # what is wrong in this one

    def run(self, *, on_song: Callable[[], None] = lambda: None) -> Reconciled:
        """Make one pass over the whole store; `on_song` is called at each song, as a sign of progress.

        Raises:
            QueueError, StoreError: one of them is away; what was mended until then is mended.
        """
        done = Reconciled()
        before, self._seen = self._documents, set()
        self._documents = {}
        snapshot = self._queue.snapshot()
        owed: list[JobRequest] = []
        for stored in self._ledger.songs():
            on_song()
            for job in stored.jobs.values():
                try:
                    documents = self._read(job, before.get(job.job_id))
                except StoreError as error:
                    if error.code != "bad_document":
                        raise
                    log.error("document unreadable", job_id=job.job_id, error=error.message)
                    continue
                if documents is None:
                    done.orphans += self._sweep_removed(job)
                elif documents.outcome is None:
                    if job.job_id not in snapshot.present and self._again(_MISSING, documents.request):
                        owed.append(documents.request)
                else:
                    self._mend_over(job, documents.request, documents.outcome, snapshot, done)
            done.retired += self._retention.apply(stored, self._documents_of(stored), snapshot)
        self._requeue(owed, done, on_song)
        self._forget_unknown(snapshot, done)
        self._suspects = self._seen
        return done

    def _read(self, job: StoredJob, before: _Documents | None) -> _Documents | None:
        """Return a job's documents, read only if they changed since the last pass; None if it has no request."""
        if job.request is None:
            return None
        etags = (job.request.etag, job.outcome.etag if job.outcome else "")
        if before is None or before.etags != etags:
            request = self._ledger.request(job.job_id)
            if request is None:
                return None  # removed since it was listed
            before = _Documents(etags, request, self._ledger.outcome(request) if job.outcome else None)
        self._documents[job.job_id] = before
        return before

    def _mend_over(
        self, job: StoredJob, request: JobRequest, outcome: Outcome, snapshot: QueueSnapshot, done: Reconciled
    ) -> None:
        """Mend what is left of a job that is over."""
        job_id = job.job_id
        done.orphans += self._sweep_losers(job, outcome)
        kept = {info.name.key for info in job.attempts}
        stems = [stem for stem, file in outcome.stems.items() if file.key in kept]
        copies = {names.stem_object(job_id, stem, outcome.format).key for stem in stems}
        if not copies <= job.copies and self._again(_UNPUBLISHED, request):
            self._ledger.publish(outcome)
            done.published += 1
        if (job_id in snapshot.open or job_id in snapshot.present) and self._again(_STILL_OPEN, request):
            callbacks = len(request.callbacks)
            code = outcome.error_code
            done.settled += self._queue.settle(
                job_id, request.generation, outcome.status, error_code=code, callbacks=callbacks
            )
        for index in range(len(request.callbacks)):
            waits = str(index) in outcome.deliveries or (job_id, index) in snapshot.outbox
            if not waits and self._again(_UNDELIVERED, request, str(index)):
                self._queue.outbox.owe(job_id, index)
                done.callbacks += 1
        if outcome.status is JobStatus.FAILED and job_id not in snapshot.failed:
            self._queue.note_failed(job_id, round(outcome.finished_at_seconds * 1000))

    def _sweep_losers(self, job: StoredJob, outcome: Outcome) -> int:
        """Remove the files of attempts that came too late: the outcome names another token."""
        winner = names.attempt_prefix(job.job_id) + outcome.token + "/"
        losers = [info for info in job.attempts if not info.name.key.startswith(winner)]
        if not losers:
            return 0
        # Read anew: a job submitted again since may have an attempt among what was listed.
        _, standing = self._ledger.end(job.job_id)
        if standing is None or standing.token != outcome.token:
            return 0
        for info in losers:
            self._ledger.store.remove(info.name)
        return len(losers)

    def _sweep_removed(self, job: StoredJob) -> int:
        """Remove what is left of a job that was removed: a worker that slept may have committed it after that.

        The listing is older than this look at the request, so nothing that was listed belongs to a later submission.
        Copies alone are none of ours: an older service made them, and a removal takes ours before the attempts.
        """
        if (job.outcome is None and not job.attempts) or self._ledger.request(job.job_id) is not None:
            return 0
        left = [info.name for info in (job.outcome, *job.attempts) if info is not None]
        left += [names.ObjectName(names.OUTPUT_BUCKET, key) for key in job.copies]
        for name in left:
            self._ledger.store.remove(name)
        return len(left)

    def _requeue(self, owed: list[JobRequest], done: Reconciled, on_song: Callable[[], None]) -> None:
        """Queue owed jobs, the oldest first, so that they are served in the order of their submission."""
        for request in sorted(owed, key=lambda request: request.submitted_at):
            on_song()
            if self._ledger.outcome(request) is not None:
                continue  # over since it was listed
            done.requeued += self._queue.requeue(
                request.job_id,
                request.generation,
                callbacks=len(request.callbacks),
                submitted_at_ms=round(datetime.fromisoformat(request.submitted_at).timestamp() * 1000),
            )

    def _forget_unknown(self, snapshot: QueueSnapshot, done: Reconciled) -> None:
        """Drop what is only open: a foreign consumer took it, and the store knows nothing of it."""
        for job_id in snapshot.open - snapshot.present - self._documents.keys():
            if self._is_repeated((_UNKNOWN, job_id)) and self._ledger.request(job_id) is None:
                self._queue.forget(job_id)
                done.forgotten += 1

    def _documents_of(self, stored: StoredSong) -> dict[str, tuple[JobRequest, Outcome | None]]:
        found = ((job_id, self._documents.get(job_id)) for job_id in stored.jobs)
        return {job_id: (each.request, each.outcome) for job_id, each in found if each is not None}

    def _again(self, what: str, request: JobRequest, *more: str) -> bool:
        """Note that something is wrong with a job; True if it was so in the last pass already."""
        return self._is_repeated((what, request.job_id, request.generation, *more))

    def _is_repeated(self, suspect: tuple[str, ...]) -> bool:
        self._seen.add(suspect)
        return suspect in self._suspects
