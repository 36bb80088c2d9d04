"""The outbox: callbacks that are still to be delivered, each as `job_id#index` with the time when it is due.

It is an index as the queue is: what a request asks for and its outcome has not noted is owed, whatever stands here.
Beside each stands what is known of it: how many tries have failed, how the last one did, and which host it goes to.
Which of those that are due go first is `unmix.janitor.lanes`' to say.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

from unmix.queue.keys import OUTBOX, OUTBOX_TRIES
from unmix.queue.link import RedisLink

#: Deliveries read at once: there may be many.
PAGE: Final = 1000
#: Longest pause between two tries, unless the receiver asks for a longer one.
LONGEST_PAUSE_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class FailedTry:
    """How a try of a delivery failed."""

    at: str  # ISO 8601, UTC
    error: str
    http_status: int | None = None  # of the answer, if there was one


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a delivery that is not over."""

    tries: int
    last: FailedTry | None
    due_ms: int | None  # None: it is in no outbox, as Redis has lost it


class Outbox:
    """The deliveries of all jobs. Every method raises `QueueError` when Redis is away.

    A delivery is named by its job and the `index` of the callback in the request.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def owe(self, job_id: str, index: int) -> None:
        """Make a delivery that Redis has lost due again."""
        with self._link.errors():
            self._link.client.zadd(OUTBOX, {f"{job_id}#{index}": self._link.now_ms()}, nx=True)

    def owe_anew(self, job_id: str, index: int) -> None:
        """Make a delivery due at once, with all its tries before it."""
        entry = f"{job_id}#{index}"
        with self._link.errors():
            pipe = self._link.client.pipeline()
            pipe.hdel(OUTBOX_TRIES, *_fields(entry))
            pipe.zadd(OUTBOX, {entry: self._link.now_ms()})
            pipe.execute()

    def due(self, *, limit: int, offset: int = 0) -> list[tuple[str, int]]:
        """Return up to `limit` deliveries that are due, as (job_id, index), the one that was due first at the head."""
        with self._link.errors():
            now = self._link.now_ms()
            due = cast(list[str], self._link.client.zrangebyscore(OUTBOX, "-inf", now, start=offset, num=limit))
        return [delivery(entry) for entry in due]

    def due_with_hosts(self) -> Iterator[tuple[tuple[str, int], str | None]]:
        """Yield all deliveries that are due, and the host that each goes to, None where nobody has noted it.

        Read in several steps: what leaves meanwhile may hide another, until the next time.
        """
        offset = 0
        while page := self.due(limit=PAGE, offset=offset):
            with self._link.errors():
                fields = [f"host:{job_id}#{index}" for job_id, index in page]
                hosts = cast(list[str | None], self._link.client.hmget(OUTBOX_TRIES, fields))
            yield from zip(page, hosts, strict=True)
            offset += PAGE

    def note_host(self, job_id: str, index: int, host: str) -> None:
        """Note where a delivery goes that has to wait, so that its documents need not be read again until its turn."""
        entry = f"{job_id}#{index}"
        with self._link.errors():
            self._link.client.hset(OUTBOX_TRIES, f"host:{entry}", host)
            self._clear_if_ended(entry)

    def put_off(
        self,
        job_id: str,
        index: int,
        *,
        retry_seconds: float,
        least_seconds: float = 0.0,
        failed: FailedTry | None = None,
    ) -> int:
        """Note a failed try and return how many there were; each delivery waits four times longer than the last.

        Pauses differ by up to 20 %, so that those that failed together do not come together again. None is shorter than
        `least_seconds`.
        """
        entry = f"{job_id}#{index}"
        with self._link.errors():
            tries = self._link.client.hincrby(OUTBOX_TRIES, entry, 1)
            if failed:
                told = {"at": failed.at, "error": failed.error, "http_status": failed.http_status}
                self._link.client.hset(OUTBOX_TRIES, f"last:{entry}", json.dumps(told))
            own_seconds = min(retry_seconds * 4.0 ** min(tries - 1, 20), LONGEST_PAUSE_SECONDS)
            pause_seconds = max(own_seconds * random.uniform(0.8, 1.2), least_seconds * random.uniform(1.0, 1.2))
            due = self._link.now_ms() + round(pause_seconds * 1000)
            self._link.client.zadd(OUTBOX, {entry: due}, xx=True)
            self._clear_if_ended(entry)
        return tries

    def tries(self, job_id: str, index: int) -> int:
        """Return how many tries of a delivery have failed."""
        with self._link.errors():
            return int(cast(str | None, self._link.client.hget(OUTBOX_TRIES, f"{job_id}#{index}")) or 0)

    def standings(self, job_id: str, indexes: Sequence[int]) -> dict[int, Standing]:
        """Return how it stands with some deliveries of a job that are not over."""
        with self._link.errors():
            pipe = self._link.client.pipeline()
            for index in indexes:
                entry = f"{job_id}#{index}"
                pipe.hmget(OUTBOX_TRIES, [entry, f"last:{entry}"])
                pipe.zscore(OUTBOX, entry)
            answers = pipe.execute()
        return {
            index: Standing(int(tries or 0), _failed_try(last), None if due is None else round(due))
            for index, (tries, last), due in zip(indexes, answers[::2], answers[1::2], strict=True)
        }

    def end(self, job_id: str, index: int) -> None:
        """Take a delivery out: it arrived, or it was given up."""
        entry = f"{job_id}#{index}"
        with self._link.errors():
            pipe = self._link.client.pipeline()
            pipe.zrem(OUTBOX, entry)
            pipe.hdel(OUTBOX_TRIES, *_fields(entry))
            pipe.execute()

    def _clear_if_ended(self, entry: str) -> None:
        """Drop what is known of a delivery that another janitor has ended meanwhile; inside `errors()`."""
        if self._link.client.zscore(OUTBOX, entry) is None:
            self._link.client.hdel(OUTBOX_TRIES, *_fields(entry))


def delivery(entry: str) -> tuple[str, int]:
    """Split an element of the outbox into (job_id, index)."""
    job_id, _, index = entry.partition("#")
    return job_id, int(index)


def _fields(entry: str) -> tuple[str, ...]:
    """Return where all stands that is known of a delivery."""
    return entry, f"last:{entry}", f"host:{entry}"


def _failed_try(told: str | None) -> FailedTry | None:
    if told is None:
        return None
    fields = json.loads(told)
    return FailedTry(fields["at"], fields["error"], fields["http_status"])
