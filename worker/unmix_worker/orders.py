"""The child's ear: what its parent orders, one after the other, and at once that its song is wanted no more.

A thread reads, so that the end of the parent and a song that is abandoned are noticed in the middle of computing.
"""

import os
import queue
import sys
import threading
from typing import Self

from unmix.errors import EngineError
from unmix_worker.messages import Abandon, Order, decode_order


class AbandonedError(Exception):
    """Raised to leave a song that nobody wants any more; no fault of anybody's."""


class Orders:
    """What the parent says."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Order | ValueError] = queue.SimpleQueue()
        self._abandon = threading.Event()  # said, and not taken from the queue yet

    @classmethod
    def of_parent(cls) -> Self:
        """Begin to listen; the process ends as soon as the parent is gone, or nothing of it can be read any more."""
        orders = cls()

        def read() -> None:
            try:
                for line in sys.stdin:
                    orders.add(line)
            finally:
                os._exit(0)  # torch does not listen

        threading.Thread(target=read, daemon=True).start()
        return orders

    def add(self, line: str) -> None:
        """Take a line that the parent has said."""
        try:
            order = decode_order(line)
        except ValueError as error:
            self._orders.put(error)
            return
        if isinstance(order, Abandon):
            self._abandon.set()
        self._orders.put(order)

    def next(self) -> Order:
        """Wait for the next order, and return it.

        Raises:
            EngineError: only another version knows it (`bad_task`).
        """
        order = self._orders.get()
        if isinstance(order, ValueError):
            raise EngineError(f"the worker is of another version: {order}", code="bad_task", retryable=True) from order
        if isinstance(order, Abandon):
            self._abandon.clear()
        return order

    def next_of_song(self) -> Order:
        """Do the same in the middle of a song.

        Raises:
            AbandonedError: the song is wanted no more.
        """
        order = self.next()
        self.check()
        if isinstance(order, Abandon):
            raise AbandonedError
        return order

    def check(self) -> None:
        """Raise `AbandonedError` if the song that is worked on is wanted no more."""
        if self._abandon.is_set():
            raise AbandonedError

    def pass_over(self) -> None:
        """Forget what was ordered of a song that is left."""
        while self._abandon.is_set():
            self.next()
