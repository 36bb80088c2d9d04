"""How often may be called: a bucket of tokens for each host, and for each job, which all janitors share."""

from collections.abc import Mapping
from dataclasses import dataclass

from unmix.queue.keys import CALLS_PREFIX
from unmix.queue.link import RedisLink


@dataclass(frozen=True, slots=True)
class CallRate:
    """How fast a bucket gains tokens, and how many it holds: so many calls may come at once."""

    per_minute: float
    at_once: int


class CallLimits:
    """The buckets. Its method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def take(self, rates: Mapping[str, CallRate]) -> dict[str, float]:
        """Take a token from each of the named buckets, and return nothing; or how many seconds some lack theirs.

        In that case none is taken.
        """
        keys = [CALLS_PREFIX + name for name in rates]
        numbers = [number for rate in rates.values() for number in (60_000 / rate.per_minute, rate.at_once)]
        waits_ms = self._link.run("take_call", keys, *numbers)
        return {name: ms / 1000 for name, ms in zip(rates, waits_ms, strict=True) if ms}
