"""Runs: who makes which parts of a song, so that workers without a song of their own can help with somebody else's.

The worker that has claimed a job asks for help; it and its helpers take runs of consecutive parts, each under a lease
of its own. All of it is a hint: parts are in the store (`unmix.ledger.parts`), and a worker that finds Redis away
makes them all.
"""

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from unmix.job import JobStatus, SongLevel
from unmix.queue.keys import HELP, JOB_PREFIX, RUNS_PREFIX
from unmix.queue.link import RedisLink
from unmix.queue.records import Claim

#: Most parts that one worker takes at once: a run costs one window more than going on would.
RUN_PARTS: Final = 4
#: What nobody has asked for again is forgotten after so many seconds.
_FORGOTTEN_SECONDS: Final = 3600
#: Jobs that a worker without a song looks at.
_LOOKED_AT: Final = 256
#: Most parts of a song that is believed to have any: of thirteen days with `htdemucs`.
_MOST_PARTS: Final = 100_000
_FIELDS: Final = ["generation", "kind", "parts", "length", "level"]


@dataclass(frozen=True, slots=True)
class PartsOfJob:
    """Which parts of which submission are asked for; only workers that make parts of this kind can help."""

    job_id: str
    generation: str
    kind: str
    count: int
    length: int  # of every part but the last, in samples
    level: dict[str, Any]  # what the song is normalised by


@dataclass(frozen=True, slots=True)
class Run:
    """The parts `[first, stop)`, leased to one worker under a token."""

    first: int
    stop: int
    token: str


class Runs:
    """The runs of all jobs that are worked on. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink, *, lease_seconds: float) -> None:
        self._link = link
        self._lease_ms = round(lease_seconds * 1000)

    def ask_help(self, claim: Claim, parts: PartsOfJob, there: Collection[int]) -> bool:
        """Say that help with a claimed job is welcome, and which parts are there; False if the claim is lost."""
        keys = [HELP, RUNS_PREFIX + parts.job_id, JOB_PREFIX + parts.job_id]
        level, known = json.dumps(parts.level), json.dumps(sorted(there))
        asked = (claim.token, parts.generation, parts.kind, parts.count, parts.length, level, known)
        return bool(self._link.run("ask_help", keys, parts.job_id, *asked, _FORGOTTEN_SECONDS))

    def known(self, job_id: str) -> tuple[PartsOfJob, list[int]] | None:
        """Return which parts of a job were asked for last, and which are in the store; None if it has none."""
        with self._link.errors():
            fields = cast(dict[str, str], self._link.client.hgetall(RUNS_PREFIX + job_id))
        parts = _parts(job_id, fields)
        if parts is None:
            return None
        there = (int(name) for name, state in fields.items() if state == "there" and name.isascii() and name.isdigit())
        return parts, sorted(index for index in there if index < parts.count)

    def wanted(self, kind: str) -> list[PartsOfJob]:
        """Return the jobs that want parts of this kind, the oldest first; those that are over leave the list."""
        with self._link.errors():
            job_ids = cast(list[str], self._link.client.zrange(HELP, 0, _LOOKED_AT - 1))
            pipe = self._link.client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hget(JOB_PREFIX + job_id, "status")
                pipe.hmget(RUNS_PREFIX + job_id, _FIELDS)
            answers = pipe.execute(raise_on_error=False)
            wanted = []
            for job_id, status, fields in zip(job_ids, answers[::2], answers[1::2], strict=True):
                parts = _parts(job_id, dict(zip(_FIELDS, fields, strict=True))) if isinstance(fields, list) else None
                if parts is None or status not in (JobStatus.QUEUED, JobStatus.RUNNING):
                    self._link.client.zrem(HELP, job_id)
                elif parts.kind == kind:
                    wanted.append(parts)
        return wanted

    def take(self, parts: PartsOfJob, *, wished: int = 0) -> Run | int | None:
        """Lease the next run, from part `wished` on if that is free.

        Returns how many parts are not there yet if all of them are being made, and None if there is nothing to do.
        """
        token = secrets.token_hex(8)
        keys = [HELP, RUNS_PREFIX + parts.job_id, JOB_PREFIX + parts.job_id]
        asked = (parts.job_id, parts.generation, parts.kind, token, self._lease_ms, wished, RUN_PARTS)
        answer = self._link.run("take_run", keys, *asked, _FORGOTTEN_SECONDS)
        if not answer:
            return None
        first, count = answer
        return int(count) if first < 0 else Run(first, first + count, token)

    def there(self, parts: PartsOfJob) -> set[int]:
        """Return the numbers of the parts that somebody said are in the store."""
        known, there = self.known(parts.job_id) or (None, [])
        return set(there) if known and (known.generation, known.kind) == (parts.generation, parts.kind) else set()

    def renew(self, parts: PartsOfJob, run: Run) -> bool:
        """Extend the lease of a run; False if it is of no use any more."""
        return self._renew(parts, run, self._lease_ms)

    def give_back(self, parts: PartsOfJob, run: Run) -> None:
        """Leave what is left of a run to others."""
        self._renew(parts, run, 0)

    def note_there(self, parts: PartsOfJob, index: int) -> None:
        """Note that a part is in the store."""
        self._note(parts, index, "there")

    def note_missing(self, parts: PartsOfJob, index: int) -> None:
        """Note that a part has to be made again after all."""
        self._note(parts, index, "missing")

    def _renew(self, parts: PartsOfJob, run: Run, lease_ms: int) -> bool:
        keys = [RUNS_PREFIX + parts.job_id, JOB_PREFIX + parts.job_id]
        return bool(self._link.run("renew_run", keys, parts.generation, run.token, lease_ms))

    def _note(self, parts: PartsOfJob, index: int, state: str) -> None:
        self._link.run("note_part", [RUNS_PREFIX + parts.job_id], parts.generation, parts.kind, index, state)


def _parts(job_id: str, fields: Mapping[str, str | None]) -> PartsOfJob | None:
    """Return what was asked for; None if nothing was, or something that only another version writes."""
    generation, kind, count, length, level = (fields.get(name) or "" for name in _FIELDS)
    try:
        known = SongLevel.from_fields(json.loads(level))
        parts = PartsOfJob(job_id, generation, kind, int(count), int(length), known.to_fields())
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return parts if 0 < parts.count <= _MOST_PARTS and parts.length > 0 else None
