"""The queue of jobs on Redis lists: who waits, who works on what, and what has to be looked at again.

Redis is an index that can be rebuilt: what is owed and what is done stands in the object store (`unmix.ledger.ledger`).
Every change of state is one script (`unmix.queue.link`), by Redis' own clock.
"""

import hashlib
import json
import random
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from typing import Final, Literal, Self, cast

from unmix.errors import LeaseLostError
from unmix.job import JobStatus, ModelCard
from unmix.queue.link import RedisLink
from unmix.queue.log_list import LogList
from unmix.queue.outbox import OUTBOX, OUTBOX_TRIES, Outbox, delivery

TO_WORKER: Final = "toWorker"
TAKEN: Final = "unmix:taken"
LEASES: Final = "unmix:leases"
OPEN: Final = "unmix:open"
DELAYED: Final = "unmix:delayed"
MARKS: Final = "unmix:marks"
FAILED: Final = "unmix:failed"
MODELS: Final = "unmix:models"
JOB_PREFIX: Final = "unmix:job:"
COMMIT_PREFIX: Final = "unmix:commit:"

#: Seconds that the record of a finished job stays; the outcome in the store is what counts.
OVER_RECORD_SECONDS: Final = 3600
#: Seconds that the guard of a commit stays, where the store itself has none; longer than any frozen worker sleeps.
COMMIT_GUARD_SECONDS: Final = 7 * 24 * 3600
#: Elements read at once from a list that may be long.
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How patient the queue is. All times in seconds by Redis' clock."""

    lease_seconds: float = 30
    grace_seconds: float = 20
    retry_seconds: float = 5
    max_attempts: int = 5
    max_crashes: int = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """One worker's right to a job, worth as much as its token."""

    job_id: str
    token: str
    attempt: int  # from 1
    generation: str | None  # None: a foreign push, of which nothing was known before
    failures: int  # that may pass
    crashes: int  # of the separating process under a live worker
    lapses: int  # deaths of whole workers


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What Redis knows of a job that is not over, or was until a moment ago."""

    status: JobStatus
    attempt: int
    progress: float  # 0..1
    worker: str | None
    retry_at_ms: int | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """How many jobs a sweep put back to the head of the queue, by reason."""

    retries: int
    lapsed: int
    unclaimed: int


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How much there is to do."""

    waiting: int
    open: int
    running: int
    delayed: int
    outbox: int


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """What Redis held a moment ago. Read in several steps: what moved meanwhile may be missing."""

    present: frozenset[str]  # elements that wait, are taken, leased or delayed
    open: frozenset[str]
    failed: frozenset[str]
    outbox: frozenset[tuple[str, int]]  # (job_id, index of the callback in the request)


class JobQueue:
    """The queue, as REST, workers and the janitor see it. Every method raises `QueueError` when Redis is away."""

    def __init__(self, url: str, *, password: str = "", policy: QueuePolicy | None = None) -> None:
        self.policy = policy or QueuePolicy()
        self._link = RedisLink(url, password=password)
        self._redis = self._link.client
        self.outbox = Outbox(self._link)
        self.log_list = LogList(self._link)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def ping(self) -> None:
        """Ask Redis for a sign of life."""
        with self._link.errors():
            self._redis.ping()

    # Submitting and looking

    def submit(self, job_id: str, generation: str, *, callbacks: int = 0) -> bool:
        """Queue a job at the tail; False if this very generation is open already.

        The song and the request document must be in the store before.
        """
        return self._submit(job_id, generation, callbacks)

    def requeue(self, job_id: str, generation: str, *, callbacks: int, submitted_at_ms: int) -> bool:
        """Queue a job that is owed by the store but was found in no key; False if it is in one after all."""
        return self._submit(job_id, generation, callbacks, "1", submitted_at_ms)

    def settle(
        self, job_id: str, generation: str, status: JobStatus, *, error_code: str | None, callbacks: int
    ) -> bool:
        """End a job whose outcome is in the store, whoever has it, and make its callbacks due.

        False if Redis knows another submission of it, or knew already that this one is over.
        """
        return self._finish(job_id, "", generation, status, error_code, callbacks)

    def add_callback(self, job_id: str, index: int) -> None:
        """Make sure that the request's callback number `index`, added after its submission, is delivered too."""
        self._link.run("add_callback", [OUTBOX, JOB_PREFIX + job_id], job_id, index)

    def forget(self, job_id: str) -> None:
        """Drop a job from every key; a worker that still runs it finds its lease lost."""
        self._forget(job_id, "")

    def record(self, job_id: str) -> JobRecord | None:
        """Return what Redis knows of a job, None if nothing."""
        with self._link.errors():
            fields = cast(dict[str, str], self._redis.hgetall(JOB_PREFIX + job_id))
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

    def position(self, job_id: str) -> int | None:
        """Return the place of a waiting job, 1 for the next one served; None if it does not wait."""
        with self._link.errors():
            pipe = self._redis.pipeline()
            pipe.lpos(TO_WORKER, job_id, rank=-1)
            pipe.llen(TO_WORKER)
            index, length = pipe.execute()
        return None if index is None else length - index

    def waiting(self, *, limit: int, offset: int = 0) -> tuple[list[str], int]:
        """Return up to `limit` waiting elements in the order of service, and how many wait in all."""
        with self._link.errors():
            pipe = self._redis.pipeline()
            pipe.lrange(TO_WORKER, -offset - limit, -offset - 1)
            pipe.llen(TO_WORKER)
            elements, total = pipe.execute()
        return elements[::-1], total

    def running(self) -> list[str]:
        """Return the jobs that workers have leased, the one whose lease ends first at the head."""
        with self._link.errors():
            return cast(list[str], self._redis.zrange(LEASES, 0, -1))

    def failed(self, *, limit: int, offset: int = 0) -> tuple[list[str], int]:
        """Return up to `limit` failed jobs, the last failure first, and how many there are in all."""
        with self._link.errors():
            pipe = self._redis.pipeline()
            pipe.zrange(FAILED, offset, offset + limit - 1, desc=True)
            pipe.zcard(FAILED)
            job_ids, total = pipe.execute()
        return job_ids, total

    def counts(self) -> QueueCounts:
        """Return how much waits, runs, is delayed or has to be delivered."""
        with self._link.errors():
            pipe = self._redis.pipeline()
            pipe.llen(TO_WORKER)
            for key in (OPEN, LEASES, DELAYED, OUTBOX):
                pipe.zcard(key)
            return QueueCounts(*pipe.execute())

    # Working

    def take(self, *, block_seconds: float, fetch: Literal["blmove", "blpop"] = "blmove") -> str | None:
        """Take the next element, or None after `block_seconds` without one.

        `blmove` takes the oldest and keeps it in Redis until it is claimed. `blpop` is the literal form of the
        contract: the newest first, and out of Redis from here to the claim.
        """
        with self._link.errors():
            if fetch == "blmove":
                return cast(str | None, self._redis.blmove(TO_WORKER, TAKEN, block_seconds, "RIGHT", "LEFT"))  # type: ignore[arg-type]  # Redis takes fractions
            popped = cast(tuple[str, str] | None, self._redis.blpop([TO_WORKER], timeout=block_seconds))
            return popped[1] if popped else None

    def discard(self, element: str) -> None:
        """Drop a taken element that names no job."""
        digest = hashlib.sha1(element.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
        with self._link.errors():
            pipe = self._redis.pipeline()
            pipe.lrem(TAKEN, 1, element)
            pipe.hdel(MARKS, f"taken:{digest}")
            pipe.execute()

    def claim(
        self, element: str, job_id: str, worker_id: str, *, fetch: Literal["blmove", "blpop"] = "blmove"
    ) -> Claim | None:
        """Lease the taken `element`, which names `job_id`; None if there is nothing to do for it any more."""
        token = secrets.token_hex(8)
        keys = [TAKEN, LEASES, OPEN, DELAYED, MARKS, JOB_PREFIX + job_id]
        lease_ms = round(self.policy.lease_seconds * 1000)
        popped = "1" if fetch == "blpop" else ""
        answer = self._link.run("claim", keys, element, job_id, token, worker_id, lease_ms, popped)
        if answer[0] != "claimed":
            return None
        _, attempt, generation, failures, crashes, lapses = answer
        return Claim(job_id, token, attempt, generation or None, failures, crashes, lapses)

    def renew(self, claim: Claim, *, progress: float) -> None:
        """Extend the lease and note the progress (0..1).

        Raises:
            LeaseLostError: the token is not valid any more.
        """
        lease_ms = round(self.policy.lease_seconds * 1000)
        keys = [LEASES, MARKS, JOB_PREFIX + claim.job_id]
        if not self._link.run("renew", keys, claim.job_id, claim.token, lease_ms, round(progress, 4)):
            raise LeaseLostError(f"the lease of {claim.job_id} is lost")

    def finish(self, claim: Claim, status: JobStatus, *, error_code: str | None, callbacks: int) -> None:
        """End a job whose outcome is in the store, and make its callbacks due.

        Raises:
            LeaseLostError: the token is not valid any more.
        """
        if not self._finish(claim.job_id, claim.token, "", status, error_code, callbacks):
            raise LeaseLostError(f"the lease of {claim.job_id} is lost")

    def drop(self, claim: Claim) -> None:
        """Forget a claimed job that was removed from the store.

        Raises:
            LeaseLostError: the token is not valid any more.
        """
        if not self._forget(claim.job_id, claim.token):
            raise LeaseLostError(f"the lease of {claim.job_id} is lost")

    def release(self, claim: Claim) -> None:
        """Give a job back to the head of the queue, uncharged.

        Raises:
            LeaseLostError: the token is not valid any more.
        """
        keys = [TO_WORKER, LEASES, MARKS, JOB_PREFIX + claim.job_id]
        if not self._link.run("release", keys, claim.job_id, claim.token):
            raise LeaseLostError(f"the lease of {claim.job_id} is lost")

    def fail(self, claim: Claim, *, error_code: str, crashed: bool = False, max_attempts: int | None = None) -> bool:
        """Note a failure that may pass; True if the job will be tried again, False if its tries are used up.

        On False the claim stays valid: commit the failure, then `finish`. Delays double from `retry_seconds`, ± 20 %.

        Raises:
            LeaseLostError: the token is not valid any more.
        """
        counter, most = (
            ("crashes", self.policy.max_crashes) if crashed else ("failures", max_attempts or self.policy.max_attempts)
        )
        delay_ms = round(self.policy.retry_seconds * 1000 * random.uniform(0.8, 1.2))
        keys = [LEASES, DELAYED, MARKS, JOB_PREFIX + claim.job_id]
        answer = self._link.run("fail", keys, claim.job_id, claim.token, counter, most, delay_ms, error_code)
        if answer == "stale":
            raise LeaseLostError(f"the lease of {claim.job_id} is lost")
        return bool(answer == "retry")

    # Keeping house

    def sweep(self) -> Sweep:
        """Put back what is due or abandoned. To be called every few seconds."""
        keys = [TO_WORKER, TAKEN, LEASES, OPEN, DELAYED, MARKS]
        return Sweep(*self._link.run("sweep", keys, round(self.policy.grace_seconds * 1000), JOB_PREFIX))

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

    def note_failed(self, job_id: str, finished_at_ms: int) -> None:
        """Put a job whose outcome says so (back) among the failed ones."""
        with self._link.errors():
            self._redis.zadd(FAILED, {job_id: finished_at_ms}, nx=True)

    def first_commit(self, job_id: str, generation: str, data: bytes) -> bytes:
        """Return the first `data` that was given for this generation: the guard of stores without conditional puts.

        Whoever commits then puts these bytes, so that it does not matter who does, when, and how often.
        """
        key = f"{COMMIT_PREFIX}{job_id}:{generation}"
        with self._link.errors():
            pipe = self._redis.pipeline()
            pipe.set(key, data, nx=True, ex=COMMIT_GUARD_SECONDS)
            pipe.get(key)
            return cast(str, pipe.execute()[1]).encode()

    # What workers announce

    def announce(self, card: ModelCard) -> None:
        """Tell REST which weights and sources a model has."""
        with self._link.errors():
            self._redis.hset(MODELS, card.name, json.dumps(asdict(card), sort_keys=True))

    def model_card(self, name: str) -> ModelCard | None:
        """Return what workers announced of a model, None if none has loaded it yet."""
        with self._link.errors():
            text = cast(str | None, self._redis.hget(MODELS, name))
        if text is None:
            return None
        fields = json.loads(text)
        return ModelCard(**{**fields, "sources": tuple(fields["sources"])})

    def _submit(
        self, job_id: str, generation: str, callbacks: int, only_if_missing: str = "", submitted_at_ms: int | str = ""
    ) -> bool:
        keys = [TO_WORKER, TAKEN, LEASES, OPEN, DELAYED, FAILED, JOB_PREFIX + job_id]
        return bool(self._link.run("submit", keys, job_id, generation, callbacks, only_if_missing, submitted_at_ms))

    def _finish(
        self, job_id: str, token: str, generation: str, status: JobStatus, error_code: str | None, callbacks: int
    ) -> bool:
        keys = [LEASES, OPEN, DELAYED, OUTBOX, FAILED, MARKS, JOB_PREFIX + job_id, TO_WORKER, TAKEN, OUTBOX_TRIES]
        end = (status.value, error_code or "", callbacks, OVER_RECORD_SECONDS)
        return bool(self._link.run("finish", keys, job_id, token, generation, *end))

    def _forget(self, job_id: str, token: str) -> bool:
        keys = [TO_WORKER, TAKEN, LEASES, OPEN, DELAYED, FAILED, MARKS, JOB_PREFIX + job_id]
        return bool(self._link.run("forget", keys, job_id, token))

    def _elements(self, key: str) -> Iterator[str]:
        """Yield the elements of a list from its right end, where they leave it."""
        for first in count(0, PAGE):
            page = cast(list[str], self._redis.lrange(key, -first - PAGE, -first - 1))
            yield from page
            if len(page) < PAGE:
                return

    def _members(self, key: str) -> Iterator[str]:
        return (member for member, _ in self._redis.zscan_iter(key, count=PAGE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
