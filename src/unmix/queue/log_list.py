"""The contract's list `logging`: lines of all services, the newest first."""

from typing import cast

from unmix.queue.keys import LOGGING
from unmix.queue.link import RedisLink


class LogList:
    """The list. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def push(self, line: str, *, max_lines: int) -> None:
        """Append a line, and keep at most the newest `max_lines`."""
        with self._link.errors():
            pipe = self._link.client.pipeline()
            pipe.lpush(LOGGING, line)
            pipe.ltrim(LOGGING, 0, max_lines - 1)
            pipe.execute()

    def trim(self, *, max_lines: int, max_bytes: int) -> None:
        """Keep at most so much of the newest, whoever has pushed it."""
        self._link.run("trim_log", [LOGGING], max_lines, max_bytes)

    def pop(self, *, block_seconds: float) -> str | None:
        """Take the oldest line, or None after `block_seconds` without one."""
        with self._link.errors():
            popped = cast(tuple[str, str] | None, self._link.client.brpop([LOGGING], timeout=block_seconds))
        return popped[1] if popped else None

    def peek(self) -> list[str]:
        """Return all lines, oldest first, and leave them there."""
        with self._link.errors():
            return cast(list[str], self._link.client.lrange(LOGGING, 0, -1))[::-1]
