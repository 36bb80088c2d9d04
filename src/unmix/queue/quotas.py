"""Quotas: how much of something each of many holders may have, counted in Redis for all REST processes together.

Who a holder is, and how much it may have, is for REST to say. What Redis loses is forgiven.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from unmix.queue.keys import OPEN, QUOTA_PREFIX
from unmix.queue.link import RedisLink


@dataclass(frozen=True, slots=True)
class Bucket:
    """What comes back by itself: all of it within `window_seconds`, evenly. `amount` is asked for, or given back."""

    most: float
    window_seconds: float
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Places:
    """What somebody has until it is over: a job until it is, or anything for `keep_seconds` at most."""

    most: int
    who: str = ""  # wants one; empty: nobody
    keep_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Level:
    """How much of a quota is used, and how long it takes for enough to be free."""

    used: float
    wait_seconds: float | None  # 0: there was enough; None: until something is over
    full_seconds: float  # until a bucket is full
    had_place: bool


class Quotas:
    """The counters. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def take(self, holder: str, asked: Mapping[str, Bucket | Places]) -> dict[str, Level]:
        """Take all that is asked for of the named quotas of a holder, or nothing if there is too little of one."""
        keys = [_key(name, holder) for name in asked]
        args = [argument for quota in asked.values() for argument in _arguments(quota)]
        told = self._link.run("take_quota", [OPEN, *keys], *args)
        return {
            name: Level(float(used), None if wait < 0 else wait / 1000, full / 1000, bool(had_place))
            for name, (used, wait, full, had_place) in zip(asked, told, strict=True)
        }

    def keep_place(self, name: str, holder: str, job_id: str) -> None:
        """Have a job that is queued keep its place until it is over, however long or short that takes."""
        with self._link.errors():
            self._link.client.zadd(_key(name, holder), {job_id: 0}, xx=True)

    def leave_place(self, name: str, holder: str, who: str) -> None:
        """Free a place before its time."""
        with self._link.errors():
            self._link.client.zrem(_key(name, holder), who)


def _key(name: str, holder: str) -> str:
    return f"{QUOTA_PREFIX}{name}:{holder}"


def _arguments(quota: Bucket | Places) -> tuple[str | float, ...]:
    if isinstance(quota, Bucket):
        return "bucket", quota.most, 1000 * quota.window_seconds, quota.amount
    return "places", quota.most, quota.who, 1000 * quota.keep_seconds
