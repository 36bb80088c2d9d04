"""The queue of jobs on Redis lists: who waits, who works on what, and what has to be looked at again.

Redis is an index that can be rebuilt: what is owed and what is done stands in the object store (`unmix.ledger`).
Every change of state is one script (`unmix.queue.link`), by Redis' own clock.
"""

import hashlib
import random
import secrets
from dataclasses import dataclass
from typing import Final, Literal, Self, cast

from unmix.errors import LeaseLostError
from unmix.job import JobStatus
from unmix.queue.attendance import Attendance
from unmix.queue.call_limits import CallLimits
from unmix.queue.commit_guard import CommitGuard
from unmix.queue.job_list import JobList
from unmix.queue.keys import (
    DAMAGED,
    DELAYED,
    FAILED,
    JOB_PREFIX,
    JOBS,
    LEASES,
    MARKS,
    OPEN,
    OUTBOX,
    OUTBOX_TRIES,
    ROUNDS,
    TAKEN,
    TO_WORKER,
)
from unmix.queue.link import RedisLink
from unmix.queue.log_list import LogList
from unmix.queue.model_cards import ModelCards
from unmix.queue.outbox import Outbox
from unmix.queue.pulses import Pulses
from unmix.queue.quotas import Quotas
from unmix.queue.records import Claim, Sweep
from unmix.queue.room import QueueRoom
from unmix.queue.runs import Runs
from unmix.queue.speeds import Speeds
from unmix.queue.views import DAMAGED_SECONDS, QueueViews

#: Seconds that the record of a finished job stays; the outcome in the store is what counts.
OVER_RECORD_SECONDS: Final = 3600
#: Failed jobs that are listed, the newest; the outcomes in the store tell of all.
FAILED_LISTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How patient the queue is. All times in seconds by Redis' clock."""

    lease_seconds: float = 30
    grace_seconds: float = 20
    retry_seconds: float = 5
    max_attempts: int = 5
    max_crashes: int = 3


class JobQueue:
    """The queue: what changes it is here, the rest in its parts.

    Every method raises `QueueError` when Redis is away.
    """

    def __init__(self, url: str, *, password: str = "", policy: QueuePolicy | None = None) -> None:
        self.policy = policy or QueuePolicy()
        self._link = RedisLink(url, password=password)
        self._redis = self._link.client
        self.views = QueueViews(self._link)
        self.models = ModelCards(self._link)
        self.attendance = Attendance(self._link)
        self.job_list = JobList(self._link)
        self.pulses = Pulses(self._link)
        self.speeds = Speeds(self._link)
        self.guard = CommitGuard(self._link)
        self.outbox = Outbox(self._link)
        self.calls = CallLimits(self._link)
        self.quotas = Quotas(self._link)
        self.log_list = LogList(self._link)
        self.room = QueueRoom(self._link)
        self.runs = Runs(self._link, lease_seconds=self.policy.lease_seconds)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def ping(self) -> None:
        """Ask Redis for a sign of life."""
        with self._link.errors():
            self._redis.ping()

    def submit(self, job_id: str, generation: str, *, callbacks: int = 0, share: str = "") -> bool:
        """Queue a job; False if this very generation is open already.

        It waits for as many songs of every other share as its own has before it, and one more of each; without a share
        it goes to the tail. The song and the request document must be in the store before.
        """
        return self._submit(job_id, generation, callbacks, share=share)

    def requeue(self, job_id: str, generation: str, *, callbacks: int, submitted_at_ms: int) -> bool:
        """Queue a job that is owed by the store but was found in no key; False if it is in one after all."""
        return self._submit(job_id, generation, callbacks, submitted_at_ms, only_if_missing="1")

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
        self.job_list.drop(job_id)
        self._forget(job_id, "")

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

    def has_waiting(self) -> bool:
        """Tell whether somebody has pushed a song that nobody has taken."""
        with self._link.errors():
            return bool(self._redis.llen(TO_WORKER))

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
        keys = [TAKEN, LEASES, OPEN, DELAYED, MARKS, JOB_PREFIX + job_id, ROUNDS]
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

    def sweep(self) -> Sweep:
        """Put back what is due or abandoned. To be called every few seconds."""
        keys = [TO_WORKER, TAKEN, LEASES, OPEN, DELAYED, MARKS]
        return Sweep(*self._link.run("sweep", keys, round(self.policy.grace_seconds * 1000), JOB_PREFIX))

    def note_failed(self, job_id: str, finished_at_ms: int) -> None:
        """Put a job whose outcome says so (back) among the failed ones."""
        with self._link.errors():
            pipe = self._redis.pipeline()
            pipe.zadd(FAILED, {job_id: finished_at_ms}, nx=True)
            pipe.zremrangebyrank(FAILED, 0, -FAILED_LISTED - 1)
            pipe.execute()

    def note_damaged(self, name: str) -> None:
        """Put a document that cannot be read on the list that the metrics count."""
        with self._link.errors():
            now = self._link.now_ms()
            pipe = self._redis.pipeline()
            pipe.zadd(DAMAGED, {name: now})
            pipe.zremrangebyscore(DAMAGED, "-inf", now - 1000 * DAMAGED_SECONDS)
            pipe.execute()

    def _submit(
        self,
        job_id: str,
        generation: str,
        callbacks: int,
        submitted_at_ms: int | str = "",
        *,
        only_if_missing: str = "",
        share: str = "",
    ) -> bool:
        keys = [TO_WORKER, TAKEN, LEASES, OPEN, DELAYED, FAILED, JOB_PREFIX + job_id, ROUNDS]
        how = (only_if_missing, submitted_at_ms, share)
        return bool(self._link.run("submit", keys, job_id, generation, callbacks, *how))

    def _finish(
        self, job_id: str, token: str, generation: str, status: JobStatus, error_code: str | None, callbacks: int
    ) -> bool:
        keys = [LEASES, OPEN, DELAYED, OUTBOX, FAILED, MARKS, JOB_PREFIX + job_id]
        keys += [TO_WORKER, TAKEN, OUTBOX_TRIES, JOBS, ROUNDS]
        end = (status.value, error_code or "", callbacks, OVER_RECORD_SECONDS, FAILED_LISTED)
        return bool(self._link.run("finish", keys, job_id, token, generation, *end))

    def _forget(self, job_id: str, token: str) -> bool:
        keys = [TO_WORKER, TAKEN, LEASES, OPEN, DELAYED, FAILED, MARKS, JOB_PREFIX + job_id, ROUNDS]
        return bool(self._link.run("forget", keys, job_id, token))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
