"""Views of the queue: what REST tells of it, and what the janitor compares with the store. Nothing here changes it."""

from collections.abc import Iterator
from itertools import count
from typing import Final, cast

from unmix.job import JobStatus
from unmix.queue.keys import DAMAGED, DELAYED, FAILED, JOB_PREFIX, LEASES, OPEN, OUTBOX, ROUNDS, TAKEN, TO_WORKER
from unmix.queue.link import RedisLink
from unmix.queue.outbox import delivery
from unmix.queue.records import JobRecord, QueueCounts, QueueSnapshot

#: Elements read at once from a list that may be long.
PAGE: Final = 1000
#: How long a damaged document is counted after it was last met.
DAMAGED_SECONDS: Final = 7 * 24 * 3600


class QueueViews:
    """The queue as it is at the moment. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def record(self, job_id: str) -> JobRecord | None:
        """Return what Redis knows of a job, None if nothing."""
        return self.record_and_position(job_id)[0]

    def position(self, job_id: str) -> int | None:
        """Return the place of a waiting job, 1 for the next one served; None if it does not wait."""
        return self.record_and_position(job_id)[1]

    def record_and_position(self, job_id: str) -> tuple[JobRecord | None, int | None]:
        """Return both, of the same moment."""
        with self._link.errors():
            pipe = self._link.client.pipeline()
            pipe.hgetall(JOB_PREFIX + job_id)
            pipe.lpos(TO_WORKER, job_id, rank=-1)
            pipe.llen(TO_WORKER)
            fields, index, length = pipe.execute()
        return _record(fields), None if index is None else length - index

    def ahead_of(self, share: str) -> int:
        """Return how much of what waits would be served before another job of a share."""
        return int(self._link.run("count_ahead", [TO_WORKER, ROUNDS], share))

    def waiting(self, *, limit: int, offset: int = 0) -> tuple[list[str], int]:
        """Return up to `limit` waiting elements in the order of service, and how many wait in all."""
        with self._link.errors():
            pipe = self._link.client.pipeline()
            pipe.lrange(TO_WORKER, -offset - limit, -offset - 1)
            pipe.llen(TO_WORKER)
            elements, total = pipe.execute()
        return elements[::-1], total

    def running(self) -> list[str]:
        """Return the jobs that workers have leased, the one whose lease ends first at the head."""
        with self._link.errors():
            return cast(list[str], self._link.client.zrange(LEASES, 0, -1))

    def failed(self, *, limit: int, offset: int = 0) -> tuple[list[str], int]:
        """Return up to `limit` failed jobs, the last failure first, and how many there are in all."""
        with self._link.errors():
            pipe = self._link.client.pipeline()
            pipe.zrange(FAILED, offset, offset + limit - 1, desc=True)
            pipe.zcard(FAILED)
            job_ids, total = pipe.execute()
        return job_ids, total

    def counts(self) -> QueueCounts:
        """Return how much waits, runs, is delayed or has to be delivered, and since when the oldest job is open."""
        with self._link.errors():
            now = self._link.now_ms()
            pipe = self._link.client.pipeline()
            pipe.llen(TO_WORKER)
            for key in (OPEN, LEASES, DELAYED, OUTBOX):
                pipe.zcard(key)
            pipe.zcount(DAMAGED, now - 1000 * DAMAGED_SECONDS, "+inf")
            pipe.llen(TAKEN)
            pipe.zrange(OPEN, 0, 0, withscores=True)
            waiting, is_open, running, delayed, outbox, damaged, taken, oldest = pipe.execute()
        oldest_seconds = max(0.0, (now - oldest[0][1]) / 1000) if oldest else 0.0
        return QueueCounts(waiting, is_open, running, delayed, outbox, damaged, taken, oldest_seconds)

    def snapshot(self) -> QueueSnapshot:
        """Return which jobs are in which keys, read page by page."""
        with self._link.errors():
            present = {element for key in (TO_WORKER, TAKEN) for element in self._elements(key)}
            present.update(member for key in (LEASES, DELAYED) for member in self._members(key))
            return QueueSnapshot(
                present=frozenset(present),
                open=frozenset(self._members(OPEN)),
                failed=frozenset(self._members(FAILED)),
                outbox=frozenset(map(delivery, self._members(OUTBOX))),
            )

    def _elements(self, key: str) -> Iterator[str]:
        """Yield the elements of a list from its right end, where they leave it."""
        for first in count(0, PAGE):
            page = cast(list[str], self._link.client.lrange(key, -first - PAGE, -first - 1))
            yield from page
            if len(page) < PAGE:
                return

    def _members(self, key: str) -> Iterator[str]:
        return (member for member, _ in self._link.client.zscan_iter(key, count=PAGE))


def _record(fields: dict[str, str]) -> JobRecord | None:
    if "status" not in fields:
        return None
    return JobRecord(
        status=JobStatus(fields["status"]),
        attempt=int(fields.get("attempt", 0)),
        progress=float(fields.get("progress", 0)),
        worker=fields.get("worker"),
        retry_at_ms=int(fields["retry_at"]) if "retry_at" in fields else None,
        error_code=fields.get("error_code") or None,
    )
