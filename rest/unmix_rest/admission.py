"""Who may still bring a song, by what there is room for: in the store, for what is owed besides, in Redis, and in time.

Songs are refused while there is room for all that was promised; nothing else asks here, and least of all a removal.
"""

import math
from collections import deque
from typing import Final

from unmix.errors import StoreError, UnmixError
from unmix.job import JobRequest
from unmix.ledger.room import refuse_if_full, result_bytes
from unmix.queue.job_queue import JobQueue
from unmix.settings import Settings
from unmix.store.protocol import ObjectStore
from unmix_rest.eta import wait_seconds
from unmix_rest.shares import share

#: By so many of the songs accepted last is guessed how much those will take that are owed.
_REMEMBERED: Final = 100


class Admission:
    """What one process lets in; it remembers what it has let in lately."""

    def __init__(self, settings: Settings, queue: JobQueue, store: ObjectStore) -> None:
        self._settings = settings
        self._queue = queue
        self._store = store
        self._latest: deque[float] = deque(maxlen=_REMEMBERED)

    def refuse_early(self, size_bytes: int) -> None:
        """Refuse a song, or a piece of one, of which only the size is known.

        Raises:
            StoreError: there is no room for it (`store_full`).
        """
        refuse_if_full(self._store.room(), self._settings.min_free_gb, more_bytes=size_bytes)

    def refuse_if_late(self) -> None:
        """Refuse a song for which no worker would have time before long.

        Raises:
            UnmixError: its share has more waiting than is done in `max_backlog_minutes` (`backlog_full`).
            QueueError: Redis is away.
        """
        most_seconds = 60 * self._settings.max_backlog_minutes
        if not most_seconds:
            return
        ahead = self._queue.views.ahead_of(share())
        works = self._queue.pulses.work(first=ahead)
        speeds = {
            model: self._queue.speeds.get(model) for model in {work.model for part in works for work in part.values()}
        }
        late_seconds = wait_seconds(*works, speeds, ahead=ahead) - most_seconds
        if late_seconds > 0:
            facts = {"retry_after_seconds": math.ceil(late_seconds)}
            raise UnmixError("too much waits already", code="backlog_full", retryable=True, facts=facts)

    def refuse(self, asked: JobRequest, size_bytes: int) -> None:
        """Refuse a job whose song has `size_bytes`, unless there is room for it and its stems beside all that is owed.

        Raises:
            StoreError: there is none in the store (`store_full`).
            QueueError: there is none in Redis (`queue_full`), or Redis is away.
        """
        result = self._result_bytes(asked)
        self._refuse(size_bytes + result, usual=result)

    def refuse_all(self) -> None:
        """Refuse if any song would be refused now, however small.

        Raises:
            StoreError, QueueError: as `refuse`.
        """
        self._refuse(0, usual=0)

    @property
    def is_disk_full(self) -> bool:
        """Whether the store has come to its reserve, as far as it tells."""
        try:
            self.refuse_early(0)
        except StoreError as error:
            return error.code == "store_full"
        return False

    def note(self, accepted: JobRequest) -> None:
        """Remember a job that was accepted."""
        self._latest.append(self._result_bytes(accepted))

    def _refuse(self, more_bytes: float, *, usual: float) -> None:
        """Refuse so much, where a job takes `usual` bytes if none was let in by which that could be told."""
        self._queue.room.refuse_if_full()
        room = self._store.room()
        if room is None:
            return
        a_job = sum(self._latest) / len(self._latest) if self._latest else usual
        owed = a_job * self._queue.views.counts().open
        refuse_if_full(room, self._settings.min_free_gb, more_bytes=more_bytes + owed)

    def _result_bytes(self, request: JobRequest) -> float:
        settings = self._settings
        return result_bytes(request, usual_bitrate_kbps=settings.mp3_bitrate_kbps, parts=settings.parts)
