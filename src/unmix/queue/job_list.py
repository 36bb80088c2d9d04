"""The list of jobs: the newest of all that were ever submitted, to be found by status, label, batch or name.

It is an index as the queue is: whoever writes a request puts its job here, whoever ends one says how, and the audit
makes up for what is missing. What is asked costs as much as it returns, however many jobs there are.
"""

import heapq
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Literal, cast

from unmix.errors import InputError
from unmix.job import JobRequest, JobStatus
from unmix.job_view import JobSummary
from unmix.names import MAIN_TENANT
from unmix.outcome import Outcome
from unmix.queue.keys import (
    JOB_PREFIX,
    JOBS,
    JOBS_ENDS,
    JOBS_SINCE,
    JOBS_TENANTS,
    JOBS_WHOLE,
    OPEN,
    jobs_by,
    jobs_of,
)
from unmix.queue.link import RedisLink

#: Jobs on the list, and how much their cards may take in all, with what they are found by: names are long, labels many.
MOST_JOBS: Final = 100_000
MOST_BYTES: Final = 64 << 20
#: Most jobs that are looked at for one answer; where few of them fit, it has a page with fewer.
MOST_EXAMINED: Final = 1000

#: What is noted of a look at all jobs: that it is whole, or that one has begun since Redis was empty.
_WHOLE: Final = "1"
_BEGUN: Final = "0"
#: Jobs that are read at once.
_CHUNK: Final = 200
_CURSOR: Final = re.compile(r"(-?[0-9]{1,15})-([0-9a-f]{64}(?:\.[0-9a-f]{8})?)")


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted: those that fit all that is given."""

    status: JobStatus | None = None
    label: str | None = None
    batch: str | None = None
    name: str | None = None  # a part of it, in upper or lower case
    tenant: str | None = None  # None: of all

    def key(self, tenant: str) -> str:
        """Return the sorted set that has all of these jobs of a tenant, and as few others as can be."""
        if self.batch is not None:
            return jobs_by(tenant, f"batch:{self.batch}")
        if self.label is not None:
            return jobs_by(tenant, f"label:{self.label}")
        if self.status is not None:
            return jobs_by(tenant, f"status:{self.status.value}" if self.status.is_over else "open")
        return jobs_of(tenant)

    def fits(self, job: JobSummary) -> bool:
        """Tell whether a job is wanted."""
        return (
            self.status in (None, job.status)
            and (self.label is None or self.label in job.labels)
            and (self.batch is None or self.batch in job.batches)
            and (self.name is None or self.name.casefold() in (job.name or "").casefold())
        )


class JobList:
    """The list. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def note(self, request: JobRequest, outcome: Outcome | None = None, *, is_certain: bool = False) -> None:
        """Put a job on the list, or what has changed of it; a later submission that is there stays.

        It goes if this one `is_certain` to count: clocks differ. Who says so comes back if it does not after all.
        """
        card = {
            "generation": request.generation,
            "submitted_at": request.submitted_at if request.submitted_at_seconds else None,
            "model": request.options.model,
            "computed_seconds": request.computed_seconds,
            "name": request.name,
            "labels": request.labels,
            "batches": request.batches,
            "duration_seconds": request.duration_seconds,
            **({} if request.tenant == MAIN_TENANT else {"tenant": request.tenant}),
        }
        text = json.dumps(card, ensure_ascii=False, separators=(",", ":"))
        end = (outcome.status.value, outcome.error_code or "") if outcome else ("", "")
        submitted_at_ms = round(request.submitted_at_seconds * 1000)
        rest = (MOST_JOBS, MOST_BYTES, "1" if is_certain else "")
        self._link.run("note_job", [JOBS], request.job_id, text, submitted_at_ms, *end, *rest)

    def drop(self, job_id: str) -> None:
        """Take a job from the list that is removed."""
        self._link.run("drop_job", [JOBS], job_id)

    def page(self, wanted: JobFilter, *, limit: int, after: str | None = None) -> tuple[list[JobSummary], str | None]:
        """Return up to `limit` jobs, the newest first, and what to give as `after` for those that follow, if any do.

        Raises:
            InputError: `after` is nothing that this has returned.
        """
        found: list[JobSummary] = []
        cursor = None
        listed = [self._jobs(key, after, limit + 1) for key in self._keys(wanted)]
        newest_first = heapq.merge(*listed, key=lambda each: each[:2], reverse=True)
        for examined, (score, job_id, job) in enumerate(newest_first):
            if len(found) == limit or examined == MOST_EXAMINED:
                return found, cursor
            cursor = f"{score:.0f}-{job_id}"
            if job is not None and wanted.fits(job):
                found.append(job)
        return found, None

    def tenants(self) -> list[str]:
        """Return the tenants of which there are jobs on the list, and the main one."""
        with self._link.errors():
            return [MAIN_TENANT, *cast(list[str], self._link.client.zrange(JOBS_TENANTS, 0, -1))]

    def members(self) -> dict[str, bool]:
        """Return which jobs are on the list, and of each whether it is known to be over."""
        tenants = self.tenants()
        with self._link.errors():
            ended = {job_id for job_id, _ in self._link.client.hscan_iter(JOBS_ENDS, count=1000)}
            lists = (self._link.client.zscan_iter(jobs_of(tenant), count=1000) for tenant in tenants)
            return {job_id: job_id in ended for listed in lists for job_id, _ in listed}

    @property
    def since_ms(self) -> int:
        """When the newest job was submitted that had to make way, in ms since the epoch; 0: there was room for all."""
        with self._link.errors():
            return int(cast(str | None, self._link.client.get(JOBS_SINCE)) or 0)

    @property
    def is_whole(self) -> bool:
        """Whether all jobs have been looked at since Redis was empty."""
        with self._link.errors():
            return cast(str | None, self._link.client.get(JOBS_WHOLE)) == _WHOLE

    def note_begin(self) -> None:
        """Note that somebody begins to look at all jobs."""
        with self._link.errors():
            self._link.client.set(JOBS_WHOLE, _BEGUN, nx=True)

    def note_whole(self) -> None:
        """Note that all jobs have been looked at, unless Redis has lost that this was begun, and the list with it."""
        with self._link.errors():
            self._link.client.set(JOBS_WHOLE, _WHOLE, xx=True)

    def _keys(self, wanted: JobFilter) -> list[str]:
        """Return the sorted sets that have all of the wanted jobs."""
        if wanted.tenant is not None:
            return [wanted.key(wanted.tenant)]
        if wanted.key(MAIN_TENANT) == jobs_by(MAIN_TENANT, "open"):
            return [OPEN]  # it has those too that an earlier version has listed
        return [wanted.key(tenant) for tenant in self.tenants()]

    def _place_after(self, key: str, after: str | None) -> tuple[int, tuple[float, str]]:
        """Return the place, from the newest on, from which what follows `after` is found, and how `after` is sorted.

        It may not be there, or not any more; then others may stand there that would come before it.
        """
        if after is None:
            return 0, (inf, "")
        match = _CURSOR.fullmatch(after)
        if match is None:
            raise InputError("after has to be what an earlier answer said", code="invalid_field")
        with self._link.errors():
            pipe = self._link.client.pipeline()
            pipe.zscore(key, match[2])
            pipe.zrevrank(key, match[2])
            pipe.zcount(key, f"({match[1]}", "+inf")
            score, rank, newer = pipe.execute()
        place = rank + 1 if score is not None and score == float(match[1]) else newer
        return int(place), (float(match[1]), match[2])

    def _jobs(self, key: str, after: str | None, chunk: int) -> Iterator[tuple[float, str, JobSummary | None]]:
        """Yield the jobs of a sorted set that follow `after`, each with its score; None is no job of the list.

        The first `chunk` are read at once.
        """
        first, last = self._place_after(key, after)
        while True:
            keys = [key, JOBS, JOB_PREFIX]
            listed = json.loads(self._link.run("list_jobs", keys, first, first + chunk - 1))
            for score_text, job_id, card, end, record in listed:
                score = float(score_text)
                if (score, job_id) < last:  # else it was yielded before: what came meanwhile has pushed it on
                    yield score, job_id, _summary(job_id, card, end, record) if card else None
                    last = (score, job_id)
            if len(listed) < chunk:
                return
            first, chunk = first + chunk, _CHUNK


def _summary(job_id: str, card: str, end: str | Literal[False], record: Sequence[str | Literal[False]]) -> JobSummary:
    given = json.loads(card)
    if end:
        ended = json.loads(end)
        status, error_code = JobStatus(ended["status"]), ended["error_code"] or None
        progress = 1.0 if status is JobStatus.DONE else 0.0
    else:
        known, done, code = record
        status, error_code, progress = JobStatus(known or JobStatus.QUEUED), code or None, float(done or 0)
    return JobSummary(
        hash=job_id,
        status=status,
        name=given["name"],
        labels=tuple(given["labels"]),
        batches=tuple(given["batches"]),
        submitted_at=given["submitted_at"],
        duration_seconds=given["duration_seconds"],
        progress=progress,
        error_code=error_code,
    )
