"""Retention: songs and stems go when their time is over, and never what is still owed.

The times are an operator's to choose; by default everything is kept for ever. A song goes some hours after the last
of its jobs was over, its stems and all documents some days after that, the request first.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from unmix import names
from unmix.job import JobRequest, Outcome
from unmix.ledger.ledger import Ledger, StoredSong
from unmix.queue.job_queue import JobQueue, QueueSnapshot

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

    def apply(
        self, stored: StoredSong, jobs: Mapping[str, tuple[JobRequest, Outcome | None]], snapshot: QueueSnapshot
    ) -> int:
        """Remove what may go of one song, and return how many things that were.

        `jobs` are the documents of those that have a request.
        """
        for retired in stored.retired:
            self.ledger.restore_song(stored.song_hash, retired.name)
            # Whoever set it aside may only sleep, and wants it back then.
            if names.retired_since_ns(retired.name) < time.time_ns() - LONGEST_REMOVAL_NS:
                self.ledger.store.remove(retired.name)
        now = time.time()
        gone = 0
        for job_id, (request, outcome) in jobs.items():
            if self.stems_days and outcome and outcome.finished_at_seconds < now - 86400 * self.stems_days:
                if self.ledger.end(job_id) != (request, outcome):
                    continue  # submitted anew since it was listed
                self.queue.forget(job_id)  # first: what is submitted from here on must not be taken from the queue
                self.ledger.remove_job(job_id)
                log.info("job retired", job_id=job_id)
                gone += 1
        if self.songs_hours and stored.song is not None and self._is_song_over(stored, jobs, snapshot, now):
            gone += self.ledger.retire_song(stored.song_hash)
        return gone

    def _is_song_over(
        self,
        stored: StoredSong,
        jobs: Mapping[str, tuple[JobRequest, Outcome | None]],
        snapshot: QueueSnapshot,
        now: float,
    ) -> bool:
        """Tell whether nobody has needed the song for long; one that was only pushed has no request yet."""
        assert stored.song is not None
        if snapshot.present & {stored.song_hash, *stored.jobs}:
            return False
        ends = [outcome.finished_at_seconds if outcome else now for _, outcome in jobs.values()]
        return max([stored.song.modified_at, *ends]) < now - 3600 * self.songs_hours
