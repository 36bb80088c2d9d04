"""Attendance: which workers are there and what they do, as each of them says, and why the last one ended.

It decides nothing: who works on what is in the leases. REST tells people by it why their songs wait, and the janitor
which pods had better be spared (`unmix.janitor.deletion_costs`).
"""

import json
from dataclasses import asdict, fields
from typing import Any, Final, cast

from unmix.queue.keys import JOB_PREFIX, LAST_WORKER, LEASES, WORKERS
from unmix.queue.link import RedisLink
from unmix.queue.records import Attendant, LastWords, WorkerState

#: How often a worker says that it is there, in seconds.
NOTE_SECONDS: Final = 5
#: Who has said nothing for so long counts as gone.
GONE_SECONDS: Final = 4 * NOTE_SECONDS
#: Who died without a word is forgotten after so long.
_FORGOTTEN_SECONDS: Final = 24 * 3600


class Attendance:
    """The workers. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def arrive(self, worker: str, host: str) -> None:
        """Say that a worker has come, and forget those that died long ago."""
        with self._link.errors():
            long_ago = self._link.now_ms() - 1000 * _FORGOTTEN_SECONDS
            dead = [each.worker for each in self._all() if each.noted_at_ms < long_ago]
            if dead:
                self._link.client.hdel(WORKERS, *dead)
        self.note(worker, host, WorkerState.LOADING)

    def note(self, worker: str, host: str, state: WorkerState) -> None:
        """Say that a worker is there, and what it does."""
        with self._link.errors():
            noted = Attendant(worker, host, state, self._link.now_ms())
            self._link.client.hset(WORKERS, worker, json.dumps(asdict(noted), sort_keys=True))

    def leave(self, worker: str, *, code: str | None, error: str | None) -> None:
        """Say that a worker has ended, and why if nobody asked it to."""
        with self._link.errors():
            words = LastWords(worker, self._link.now_ms(), code, error)
            pipe = self._link.client.pipeline()
            pipe.hdel(WORKERS, worker)
            pipe.set(LAST_WORKER, json.dumps(asdict(words), sort_keys=True), ex=_FORGOTTEN_SECONDS)
            pipe.execute()

    def present(self) -> list[Attendant]:
        """Return the workers that are there."""
        with self._link.errors():
            since = self._link.now_ms() - 1000 * GONE_SECONDS
            return [each for each in self._all() if each.noted_at_ms >= since]

    def last_to_leave(self) -> LastWords | None:
        """Return how the last worker ended that is not there any more; None if nobody knows of any."""
        with self._link.errors():
            since = self._link.now_ms() - 1000 * GONE_SECONDS
            text = cast(str | None, self._link.client.get(LAST_WORKER))
            ends = [LastWords(**_known(LastWords, text))] if text else []
            ends += [LastWords.of_the_silent(each) for each in self._all() if each.noted_at_ms < since]
        return max(ends, key=lambda end: end.at_ms, default=None)

    def busy(self) -> set[str]:
        """Return the workers that have claimed a song."""
        with self._link.errors():
            job_ids = cast(list[str], self._link.client.zrange(LEASES, 0, -1))
            pipe = self._link.client.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hget(JOB_PREFIX + job_id, "worker")
            return {worker for worker in pipe.execute() if worker}

    def _all(self) -> list[Attendant]:
        """Return what every worker has said last."""
        texts = cast(dict[str, str], self._link.client.hgetall(WORKERS)).values()
        noted = [_known(Attendant, text) for text in texts]
        return [Attendant(**{**each, "state": WorkerState(each["state"])}) for each in noted]


def _known(kind: type[Attendant | LastWords], text: str) -> dict[str, Any]:
    """Read a note; what only later versions write there is passed over."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in json.loads(text).items() if name in names}
