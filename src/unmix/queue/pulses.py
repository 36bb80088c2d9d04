"""Pulses: how many jobs go at this moment, asked in one go, for those who watch them. Nothing here changes anything."""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

from unmix.job import JobStatus
from unmix.queue.keys import JOB_PREFIX, JOBS_CARDS, JOBS_ENDS, LEASES, OPEN, RUNS_PREFIX, TO_WORKER, jobs_by
from unmix.queue.link import RedisLink

#: Jobs of one batch that are watched, the newest.
MOST_OF_A_BATCH: Final = 1000
#: How far down the queue anybody looks for who is served before whom.
_LOOKED_AT: Final = 1000
#: How far down places are counted: all of that is read at once, however many jobs are asked for.
MOST_COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class JobPulse:
    """How a job goes."""

    status: JobStatus
    attempt: int = 0  # from 1
    progress: float = 0.0  # 0..1
    error_code: str | None = None
    position: int | None = None  # in the queue, from 1
    parts: int = 0
    parts_there: int = 0
    eta_seconds: float | None = field(default=None, compare=False)  # to its end; it changes all the time


@dataclass(frozen=True, slots=True)
class Work:
    """A song that waits or runs, as far as its cost is concerned."""

    model: str
    song_seconds: float
    progress: float  # 0..1


class Pulses:
    """The pulses of the jobs of one queue. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def read(self, job_ids: Collection[str]) -> dict[str, JobPulse]:
        """Return how jobs go; those that nothing is known of are left out."""
        ids = list(job_ids)
        if not ids:
            return {}
        with self._link.errors():
            pipe = self._link.client.pipeline(transaction=False)
            pipe.hmget(JOBS_ENDS, ids)
            for job_id in ids:
                pipe.hmget(JOB_PREFIX + job_id, "status", "attempt", "progress", "error_code")
            ends, *records = pipe.execute()
        found = {}
        for job_id, end, (status, attempt, progress, error_code) in zip(ids, ends, records, strict=True):
            if status is not None:
                stands, done = JobStatus(status), float(progress or 0)
                if stands.is_over:
                    done = _progress_at_end(stands)
                found[job_id] = JobPulse(stands, int(attempt or 0), done, error_code or None)
            elif end is not None:
                ended = json.loads(end)
                stands = JobStatus(ended["status"])
                found[job_id] = JobPulse(stands, 0, _progress_at_end(stands), ended["error_code"] or None)
        return found

    def open(self, job_ids: Collection[str]) -> set[str]:
        """Return those of the jobs that are queued or running."""
        ids = list(job_ids)
        if not ids:
            return set()
        with self._link.errors():
            scores = self._link.client.zmscore(OPEN, ids)
        return {job_id for job_id, score in zip(ids, scores, strict=True) if score is not None}

    def of_batch(self, batch: str, tenants: Iterable[str]) -> list[str]:
        """Return the jobs of a batch that are of these tenants, the newest first."""
        with self._link.errors():
            pipe = self._link.client.pipeline(transaction=False)
            for tenant in tenants:
                pipe.zrange(jobs_by(tenant, f"batch:{batch}"), 0, MOST_OF_A_BATCH - 1, desc=True, withscores=True)
            found = [each for listed in pipe.execute() for each in listed]
        found.sort(key=lambda job: job[1], reverse=True)
        return [job_id for job_id, _ in found[:MOST_OF_A_BATCH]]

    def positions(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the places of jobs in the queue, 1 for the next one served, as far down as they are counted."""
        if not job_ids:
            return {}
        with self._link.errors():
            waiting = cast(list[str], self._link.client.lrange(TO_WORKER, -MOST_COUNTED, -1))
        places = {job_id: len(waiting) - index for index, job_id in enumerate(waiting)}  # of two the one served first
        return {job_id: places[job_id] for job_id in job_ids if job_id in places}

    def parts(self, job_ids: Collection[str]) -> dict[str, tuple[int, int]]:
        """Return of jobs in parts how many parts they have, and how many are there."""
        ids = list(job_ids)
        if not ids:
            return {}
        with self._link.errors():
            pipe = self._link.client.pipeline(transaction=False)
            for job_id in ids:
                pipe.hgetall(RUNS_PREFIX + job_id)
            records = cast(list[dict[str, str]], pipe.execute())
        return {
            job_id: (int(record["parts"]), sum(value == "there" for value in record.values()))
            for job_id, record in zip(ids, records, strict=True)
            if "parts" in record
        }

    def work(self, *, first: int = _LOOKED_AT) -> tuple[dict[str, Work], dict[str, Work]]:
        """Return what runs and, in the order of service, the `first` of what waits, as far as its songs are known."""
        with self._link.errors():
            pipe = self._link.client.pipeline(transaction=False)
            pipe.zrange(LEASES, 0, _LOOKED_AT - 1)
            pipe.lrange(TO_WORKER, -min(first, _LOOKED_AT), -1)
            running, waiting = pipe.execute()
            waiting = waiting if first else []  # for Redis, from -0 on is everything
            ids = [*running, *reversed(waiting)]
            if not ids:
                return {}, {}
            pipe = self._link.client.pipeline(transaction=False)
            pipe.hmget(JOBS_CARDS, ids)
            for job_id in running:
                pipe.hget(JOB_PREFIX + job_id, "progress")
            cards, *progress = pipe.execute()
        done = dict(zip(running, progress, strict=True))
        works = dict(_works(ids, cards, done))
        return (
            {job_id: works[job_id] for job_id in running if job_id in works},
            {job_id: works[job_id] for job_id in reversed(waiting) if job_id in works},
        )


def _works(ids: list[str], cards: list[str | None], done: dict[str, Any]) -> Iterator[tuple[str, Work]]:
    for job_id, text in zip(ids, cards, strict=True):
        card = json.loads(text) if text else {}
        if card.get("computed_seconds"):
            yield job_id, Work(card["model"], card["computed_seconds"], float(done.get(job_id) or 0))


def _progress_at_end(status: JobStatus) -> float:
    return 1.0 if status is JobStatus.DONE else 0.0
