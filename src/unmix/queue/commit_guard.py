"""The guard of commits, for stores that ignore conditional puts: Redis remembers which outcome was first."""

from typing import Final, cast

from unmix.queue.keys import COMMIT_PREFIX
from unmix.queue.link import RedisLink

#: Seconds that the guard of a commit stays, where the store itself has none; longer than any frozen worker sleeps.
COMMIT_GUARD_SECONDS: Final = 7 * 24 * 3600


class CommitGuard:
    """Who was first. Its method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def first_commit(self, job_id: str, generation: str, data: bytes) -> bytes:
        """Return the first `data` that was given for this generation: the guard of stores without conditional puts.

        Whoever commits then puts these bytes, so that it does not matter who does, when, and how often.
        """
        key = f"{COMMIT_PREFIX}{job_id}:{generation}"
        with self._link.errors():
            pipe = self._link.client.pipeline()
            pipe.set(key, data, nx=True, ex=COMMIT_GUARD_SECONDS)
            pipe.get(key)
            return cast(str, pipe.execute()[1]).encode()
