"""Quotas: how much each key may have, or each address where there are no keys.

`unmix.queue.quotas` counts, for all REST processes together. A quota that is set to 0 is none: nothing is counted then,
and nothing asked of Redis. `unmix_rest.rate_limit` counts the requests, and tells of it in the headers.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from unmix.access.keys import utc_text
from unmix.errors import InputError, QueueError, QuotaError
from unmix.job import JobRequest
from unmix.queue.job_queue import JobQueue
from unmix.queue.quotas import Bucket, Level, Places
from unmix.settings import Settings
from unmix_rest.shares import holder

REQUESTS: Final = "requests"
UPLOADS: Final = "uploads"
JOBS: Final = "jobs"
SONG_MINUTES: Final = "song_minutes"

_MINUTE_SECONDS: Final = 60
_DAY_SECONDS: Final = 86_400
#: How long a job that was never queued keeps its place, as its process died over it.
_QUEUING_SECONDS: Final = 300
#: When to ask again for what is free as soon as something is over.
_LOOK_AGAIN_SECONDS: Final = 30

_TEXTS: Final[Mapping[str, str]] = {
    REQUESTS: "you may ask {most:g} times a minute, and have done so",
    UPLOADS: "uploads that you have open: {used:g}, of {most:g} that you may; make jobs of them, or wait for their end",
    JOBS: "jobs of yours that are not over: {used:g}, of {most:g} that you may have; wait until one of them is",
    SONG_MINUTES: "minutes of song that you may have separated in a day: {most:g}, of which {used:.1f} are used",
}


class Quotas:
    """The quotas of a service, by its settings."""

    def __init__(self, settings: Settings, queue: JobQueue) -> None:
        self._counters = queue.quotas
        self._longest_minutes = settings.max_song_seconds / 60
        quotas: dict[str, Bucket | Places] = {
            REQUESTS: Bucket(settings.quota_requests_per_minute, _MINUTE_SECONDS),
            UPLOADS: Places(settings.quota_uploads),
            JOBS: Places(settings.quota_jobs),
            SONG_MINUTES: Bucket(settings.quota_song_minutes_per_day, _DAY_SECONDS),
        }
        self.all: Mapping[str, Bucket | Places] = {name: quota for name, quota in quotas.items() if quota.most}

    def levels(self) -> dict[str, Level]:
        """Return how much of each quota the caller has used.

        Raises:
            QueueError: Redis is away.
        """
        return self._counters.take(holder(), self.all) if self.all else {}

    def take(self, name: str, **asked: Any) -> Level | None:
        """Take what is asked for of one of the caller's quotas; None if there is no such quota here.

        Raises:
            QuotaError: there is too little of it.
            QueueError: Redis is away.
        """
        if name not in self.all:
            return None
        level = self.ask(name, **asked)
        self.refuse_if_short(name, level)
        return level

    def ask(self, name: str, **asked: Any) -> Level:
        """Take what is asked for of one of the caller's quotas if there is so much, and return how it stands.

        Raises:
            QueueError: Redis is away.
        """
        return self._counters.take(holder(), {name: replace(self.all[name], **asked)})[name]

    def refuse_if_short(self, name: str, level: Level) -> None:
        """Refuse what a quota had too little for.

        Raises:
            QuotaError: it had.
        """
        if level.wait_seconds != 0:
            raise _exceeded(name, self.all[name], level)

    def leave_place(self, name: str, who: str) -> None:
        """Free one of the caller's places, as far as it has it; if Redis is away, the time of the place will."""
        if name in self.all:
            with suppress(QueueError):
                self._counters.leave_place(name, holder(), who)

    @contextmanager
    def of_job(self, job_id: str) -> Iterator["JobQuota"]:
        """Take a place for a job; all that was taken is given back at the end, unless the job was queued.

        Raises:
            QuotaError: the caller has too many open.
            QueueError: Redis is away.
        """
        place = self.take(JOBS, who=job_id, keep_seconds=_QUEUING_SECONDS)
        taken = JobQuota(self, job_id, has_it_open=place is not None and place.had_place)
        try:
            yield taken
        finally:
            taken.end()

    def keep_job(self, job_id: str) -> None:
        """Have a job that was queued keep its place until it is over."""
        if JOBS in self.all:
            with suppress(QueueError):  # then it does so for a while only
                self._counters.keep_place(JOBS, holder(), job_id)

    def minutes_of(self, request: JobRequest) -> float:
        """Return how many minutes of song a job counts; if nobody knows yet, as many as it could, or as there are.

        Raises:
            InputError: there are never so many for one caller (`too_long`).
        """
        most = self.all[SONG_MINUTES].most if SONG_MINUTES in self.all else math.inf
        if request.computed_seconds is None:
            return min(self._longest_minutes, most)
        minutes = request.computed_seconds / 60
        if minutes > most:
            raise InputError(f"this is more than the {most:g} minutes of song of a whole day", code="too_long")
        return minutes


class JobQuota:
    """What one submission takes of its caller's quotas. A job that the caller has open already costs nothing."""

    def __init__(self, quotas: Quotas, job_id: str, *, has_it_open: bool) -> None:
        self._quotas = quotas
        self._job_id = job_id
        self._has_it_open = has_it_open
        self._minutes = 0.0
        self._is_queued = False

    def take_minutes(self, request: JobRequest) -> None:
        """Take the minutes of song that the job is going to have separated.

        Raises:
            QuotaError: there are not so many left.
            InputError: there never are (`too_long`).
            QueueError: Redis is away.
        """
        minutes = self._quotas.minutes_of(request)
        if not self._has_it_open and self._quotas.take(SONG_MINUTES, amount=minutes):
            self._minutes = minutes

    def keep(self) -> None:
        """Note that the job was queued because of this submission, and not of an earlier one."""
        self._is_queued = True

    def end(self) -> None:
        """Keep what the job needs until it is over, or give back what was taken."""
        if self._is_queued:
            self._quotas.keep_job(self._job_id)
            return
        if not self._has_it_open:
            self._quotas.leave_place(JOBS, self._job_id)
        if self._minutes:
            with suppress(QueueError):
                self._quotas.ask(SONG_MINUTES, amount=-self._minutes)


def _exceeded(name: str, quota: Bucket | Places, level: Level) -> QuotaError:
    """Return what a request is refused with; nobody knows when a place will be free."""
    wait_seconds = level.wait_seconds
    retry_after_seconds = _LOOK_AGAIN_SECONDS if wait_seconds is None else max(1, math.ceil(wait_seconds))
    text = _TEXTS[name].format(most=quota.most, used=level.used)
    facts = {
        "quota": name,
        "limit": quota.most,
        "used": round(level.used, 3),
        "free_at": None if wait_seconds is None else utc_text(time.time() + wait_seconds),
        "retry_after_seconds": retry_after_seconds,
    }
    return QuotaError(text, facts=facts)
