"""The audit: goes over all that is stored, seldom and in constant memory, for what the reconciler does not look at.

It finds jobs that have lost their mark or never had one, as those of earlier versions, and what attempts and helpers
stored too late; it applies the retention, and removes uploads whose time is over. It goes by the listings alone and
reads a document only when they give a reason. What it finds it marks as open, and the reconciler sees the job through.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from unmix import names
from unmix.errors import StoreError
from unmix.janitor.retention import Retention
from unmix.job import JobStatus
from unmix.ledger.inventory import StoredJob, StoredSong, marked_job
from unmix.ledger.ledger import Ledger
from unmix.queue.job_list import JobList
from unmix.queue.job_queue import FAILED_LISTED, JobQueue
from unmix.queue.records import QueueSnapshot

log = structlog.get_logger()

#: Failures older than this are not looked for when Redis has lost its list of them.
FAILURES_SECONDS: Final = 30 * 86_400


@dataclass(slots=True)
class Audited:
    """What an audit found, and did."""

    marked: int = 0  # jobs that may need something and had no mark
    failures: int = 0  # failed jobs that Redis did not list
    retired: int = 0  # songs and jobs whose time was over
    listed: int = 0  # jobs of which the list of jobs was wrong
    unread: int = 0  # songs that the store refuses
    uploads: int = 0  # objects of uploads whose time was over


class Audit:
    """Goes over the whole store once per `run`. Several may run: what they do can be done twice."""

    def __init__(self, queue: JobQueue, ledger: Ledger, retention: Retention) -> None:
        self._queue = queue
        self._ledger = ledger
        self._retention = retention

    def run(self, on_step: Callable[[], None] = lambda: None) -> Audited:
        """Look at every song; `on_step` is called at each, as a sign of progress.

        Raises:
            QueueError, StoreError: one of them is away; what was done until then is done.
        """
        done = Audited()
        self._queue.job_list.note_begin()
        marked = {marked_job(mark) for mark in self._ledger.inventory.open_marks()}
        snapshot = self._queue.views.snapshot()
        listed = self._queue.job_list.members()
        for stored in self._ledger.inventory.songs():
            on_step()
            try:
                self._look_at(stored, marked, snapshot, done)
                self._list(stored, listed, snapshot, done)
            except StoreError as error:
                if error.retryable:
                    raise
                done.unread += 1
                log.error("song not audited", song_hash=stored.song_hash, code=error.code, error=error.message)
        for job_id in listed:  # those that are left; the store has just come to know them, or never will
            on_step()
            if self._ledger.request(job_id) is None:
                self._queue.job_list.drop(job_id)
                done.listed += 1
        self._queue.job_list.note_whole()
        done.uploads = self._ledger.uploads.remove_over(on_step)
        return done

    def _list(self, stored: StoredSong, listed: dict[str, bool], snapshot: QueueSnapshot, done: Audited) -> None:
        """Put jobs on the list of jobs that it lacks, or does not know to be over; takes what is stored from `listed`.

        What is older than all that the list has room for is left alone.
        """
        for job in stored.jobs.values():
            if job.request is None:
                continue
            is_known_over = listed.pop(job.job_id, None)
            is_over = job.outcome is not None and job.job_id not in snapshot.open
            if is_known_over is None or (is_over and not is_known_over):
                if 1000 * job.request.modified_at < self._queue.job_list.since_ms:
                    continue
                request, outcome = self._ledger.end(job.job_id)
                if request is not None:
                    self._queue.job_list.note(request, outcome)
                    done.listed += 1

    def _look_at(self, stored: StoredSong, marked: set[str], snapshot: QueueSnapshot, done: Audited) -> None:
        for job in stored.jobs.values():
            reason = _reason(job)
            if reason is None and _is_asked_for_again(job) and self._owes_something(job.job_id):
                reason = "asked for after it was over"
            if reason and job.job_id not in marked:
                self._ledger.open_marks.put(job.job_id, reason)
                done.marked += 1
            # Where as many failures are listed as can be, older ones have no place.
            if _may_have_failed(job) and job.job_id not in snapshot.failed and len(snapshot.failed) < FAILED_LISTED:
                done.failures += self._note_failure(job.job_id)
        done.retired += self._retention.apply(stored, snapshot)

    def _owes_something(self, job_id: str) -> bool:
        request, outcome = self._ledger.end(job_id)
        return request is not None and (outcome is None or len(request.callbacks) > len(outcome.deliveries))

    def _note_failure(self, job_id: str) -> bool:
        _, outcome = self._ledger.end(job_id)
        if outcome is None or outcome.status is not JobStatus.FAILED:
            return False
        self._queue.note_failed(job_id, round(outcome.finished_at_seconds * 1000))
        return True


class DueAudits:
    """Audits when one is due: at the start, as a janitor that died may have left a job without its mark; after each
    pause; and when Redis has lost the list of jobs.
    """

    def __init__(self, audit: Audit, job_list: JobList, *, pause_seconds: float) -> None:
        self._audit = audit
        self._job_list = job_list
        self._pause_seconds = pause_seconds
        self._due_at = -math.inf

    def run(self, on_step: Callable[[], None] = lambda: None) -> Audited:
        """Audit, unless that is not due; see `Audit.run`."""
        if time.monotonic() < self._due_at and self._job_list.is_whole:
            return Audited()
        done = self._audit.run(on_step)
        self._due_at = time.monotonic() + self._pause_seconds
        return done


def _reason(job: StoredJob) -> str | None:
    """Tell why a job may need something, by what is listed of it.

    Copies alone are none of ours: an older service made them, and a removal takes ours before the attempts.
    """
    if job.request is None:
        return "left over of a removed job" if job.outcome or job.attempts or job.parts else None
    if job.outcome is None:
        return "owed"
    files = [info.name.key.split("/")[1:] for info in job.attempts]  # token and file
    if len({token for token, *_ in files}) > 1:
        return "has stems of more than one attempt"
    stems = ["/".join(file) for _, *file in files if file != [names.PEAKS_FILE]]
    if not {f"{job.job_id}-{stem}" for stem in stems} <= job.copies:
        return "has stems without copies"
    if len({names.generation_of_part(info.name) for info in job.parts}) > 1:
        return "has parts of more than one submission"
    if job.parts and not job.attempts:
        return "has parts and no stems"
    return None


def _is_asked_for_again(job: StoredJob) -> bool:
    """Tell whether the request is newer than the outcome: it may be another submission, or have one more callback."""
    return job.request is not None and job.outcome is not None and job.request.modified_at > job.outcome.modified_at


def _may_have_failed(job: StoredJob) -> bool:
    if job.request is None or job.outcome is None or job.attempts:
        return False
    return job.outcome.modified_at > time.time() - FAILURES_SECONDS
