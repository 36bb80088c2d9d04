"""The outbox: callbacks that are still to be delivered, each as `job_id#index` with the time when it is due.

It is an index as the queue is: what a request asks for and its outcome has not noted is owed, whatever stands here.
"""

from typing import cast

from unmix.queue.keys import OUTBOX, OUTBOX_TRIES
from unmix.queue.link import RedisLink


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

    def due(self, *, limit: int) -> list[tuple[str, int]]:
        """Return up to `limit` deliveries that are due, as (job_id, index)."""
        with self._link.errors():
            now = self._link.now_ms()
            due = cast(list[str], self._link.client.zrangebyscore(OUTBOX, "-inf", now, start=0, num=limit))
        return [delivery(entry) for entry in due]

    def put_off(self, job_id: str, index: int, *, retry_seconds: float) -> int:
        """Note a failed try and return how many there were; each delivery waits four times longer than the last."""
        entry = f"{job_id}#{index}"
        with self._link.errors():
            tries = self._link.client.hincrby(OUTBOX_TRIES, entry, 1)
            due = self._link.now_ms() + round(retry_seconds * 1000 * 4 ** (tries - 1))
            self._link.client.zadd(OUTBOX, {entry: due}, xx=True)
            if self._link.client.zscore(OUTBOX, entry) is None:  # another janitor has ended it meanwhile
                self._link.client.hdel(OUTBOX_TRIES, entry)
        return tries

    def tries(self, job_id: str, index: int) -> int:
        """Return how many tries of a delivery have failed."""
        with self._link.errors():
            return int(cast(str | None, self._link.client.hget(OUTBOX_TRIES, f"{job_id}#{index}")) or 0)

    def end(self, job_id: str, index: int) -> None:
        """Take a delivery out: it arrived, or it was given up."""
        entry = f"{job_id}#{index}"
        with self._link.errors():
            pipe = self._link.client.pipeline()
            pipe.zrem(OUTBOX, entry)
            pipe.hdel(OUTBOX_TRIES, entry)
            pipe.execute()


def delivery(entry: str) -> tuple[str, int]:
    """Split an element of the outbox into (job_id, index)."""
    job_id, _, index = entry.partition("#")
    return job_id, int(index)
