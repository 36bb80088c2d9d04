"""Room in Redis: how much memory is left, and whether it takes writes at all."""

from dataclasses import dataclass
from typing import Final, cast

from unmix.errors import QueueError
from unmix.queue.keys import READY
from unmix.queue.link import RedisLink

#: The part of its memory that songs leave to leases, ends of jobs and log lines.
_RESERVE_SHARE: Final = 0.1
_READY_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Memory:
    """Redis' memory in bytes; `most` is 0 where nobody limits it."""

    used: int
    most: int


class QueueRoom:
    """The room of one server. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def memory(self) -> Memory:
        """Return how much memory is used."""
        with self._link.errors():
            info = cast(dict[str, int], self._link.client.info("memory"))
        return Memory(info["used_memory"], info["maxmemory"])

    def refuse_if_full(self) -> None:
        """Refuse another song while there is still room for what is owed.

        Raises:
            QueueError: it is full (`queue_full`).
        """
        memory = self.memory()
        if memory.most and memory.used > (1 - _RESERVE_SHARE) * memory.most:
            raise QueueError("Redis has little memory left", code="queue_full")

    def check_writing(self) -> None:
        """Write something that goes by itself.

        Raises:
            QueueError: it was refused, for want of memory or of disk.
        """
        with self._link.errors():
            self._link.client.set(READY, "1", ex=_READY_SECONDS)
