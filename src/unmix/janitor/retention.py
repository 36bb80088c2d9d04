"""Retention: songs and stems go when their time is over, and never what is still owed.

The times are an operator's to choose; by default everything is kept for ever. A song goes some hours after the last
of its jobs was over, its stems and all documents some days after that, the request first. Parts go some hours after
their job was over. What may go is seen by the age of the documents as they are listed; only then they are read.
"""

import time
from dataclasses import dataclass
from typing import Final

import structlog

from unmix import names
from unmix.ledger.inventory import StoredJob, StoredSong
from unmix.ledger.ledger import Ledger
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import QueueSnapshot

log = structlog.get_logger()

#: Time after which a removal that has not ended counts as dead.
LONGEST_REMOVAL_NS: Final = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Retention:
    """How long songs and stems are kept; 0 is for ever."""

    queue: JobQueue
    ledger: Ledger
    songs_hours: float
    stems_days: float
    parts_hours: float = 0  # for these, 0 is until the next audit

    def apply(self, stored: StoredSong, snapshot: QueueSnapshot) -> int:
        """Remove what may go of one song, and return how many things that were."""
        for retired in stored.retired:
            self.ledger.removal.restore_song(stored.song_hash, retired.name)
            # Whoever set it aside may only sleep, and wants it back then.
            if names.retired_since_ns(retired.name) < time.time_ns() - LONGEST_REMOVAL_NS:
                self.ledger.removal.drop_retired(retired.name)
        gone = sum(self._retire_job(job) for job in stored.jobs.values()) if self.stems_days else 0
        gone += sum(self._retire_parts(job) for job in stored.jobs.values())
        if self.songs_hours and self._is_song_over(stored, snapshot) and not self._waits(stored):
            gone += self.ledger.removal.retire_song(stored.song_hash)
        return gone

    def _waits(self, stored: StoredSong) -> bool:
        """Ask Redis once more: the snapshot may be as old as the audit, and a foreign push has no request."""
        return any(self.queue.views.position(job_id) is not None for job_id in (stored.song_hash, *stored.jobs))

    def _retire_job(self, job: StoredJob) -> bool:
        until = time.time() - 86_400 * self.stems_days
        if job.request is None or job.outcome is None or job.outcome.modified_at >= until:
            return False
        _, outcome = self.ledger.end(job.job_id)
        if outcome is None or outcome.finished_at_seconds >= until:
            return False  # submitted again since
        self.queue.forget(job.job_id)  # first: what is submitted from here on must not be taken from the queue
        self.ledger.removal.remove_job(job.job_id)
        log.info("job retired", job_id=job.job_id)
        return True

    def _retire_parts(self, job: StoredJob) -> bool:
        """Remove the parts of a job that is over: its stems are there."""
        if not job.parts or job.request is None or job.outcome is None:
            return False
        if job.outcome.modified_at >= time.time() - 3600 * self.parts_hours:
            return False
        _, outcome = self.ledger.end(job.job_id)
        return outcome is not None and self.ledger.removal.remove_parts(job) > 0

    def _is_song_over(self, stored: StoredSong, snapshot: QueueSnapshot) -> bool:
        """Tell whether nobody has needed the song for long; one that was only pushed has no request yet."""
        if stored.song is None or snapshot.present & {stored.song_hash, *stored.jobs}:
            return False
        requested = [job for job in stored.jobs.values() if job.request]
        if any(job.outcome is None for job in requested):
            return False
        times = [stored.song.modified_at, *(job.outcome.modified_at for job in requested if job.outcome)]
        return max(times) < time.time() - 3600 * self.songs_hours
