"""The room on the disk for songs that come in or are not answered yet: for the bodies, and for the songs in them.

One bound holds for both: so much in all, the reserve of the disk (`unmix.ledger.room`), and for each client a third of
what it leaves to all others. So whoever comes first may have a quarter, and a few who come first never have all of it.
Bodies are counted by `unmix_rest.http.request_head`, songs by `unmix_rest.http.temporary`.
"""

import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Final

from unmix.errors import StoreError, UnmixError
from unmix.ledger.room import refuse_if_full, room_at

#: How much of the room a client leaves to others for each byte that it takes.
_LEFT_FOR_A_BYTE: Final = 3
#: What bodies leave of the reserve: less than songs do, so that whoever sends one is told that the store is full.
_SHARE_OF_BODIES: Final = 0.5


class UploadRoom:
    """Counts bytes by client, in the folder of temporary files. Any thread may ask."""

    def __init__(self, *, most_bytes: int, min_free_gb: float) -> None:
        self._most_bytes = most_bytes
        self._min_free_gb = min_free_gb
        self._folder = Path(tempfile.gettempdir())
        self._counting = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._to_come = 0  # bytes that were announced, and are not on the disk

    def look(self, client: str, size_bytes: int) -> None:
        """Raise if a body of this size would have no room now, and take none.

        Raises:
            UnmixError: it would not (`no_room`).
        """
        with self._counting:
            self._refuse_if_full(client, size_bytes, to_come=size_bytes, share=_SHARE_OF_BODIES)

    def take_written(self, client: str, size_bytes: int) -> None:
        """Take room for so much of a body, which is on the disk.

        Raises:
            UnmixError: there is none for it (`no_room`).
        """
        with self._counting:
            self._refuse_if_full(client, size_bytes, share=_SHARE_OF_BODIES)
            self._taken[client] += size_bytes

    def take(self, client: str, size_bytes: int) -> None:
        """Take room for so much of a song, which is to be written.

        Raises:
            UnmixError: there is none for it (`no_room`).
        """
        with self._counting:
            self._refuse_if_full(client, size_bytes, to_come=size_bytes)
            self._taken[client] += size_bytes
            self._to_come += size_bytes

    def note_written(self, size_bytes: int) -> None:
        """Note that so many of the bytes that were to come are on the disk now."""
        with self._counting:
            self._to_come -= size_bytes

    def give_back(self, client: str, size_bytes: int, *, to_come: int = 0) -> None:
        """Give room back, of which `to_come` bytes have never come."""
        with self._counting:
            self._taken[client] -= size_bytes
            self._to_come -= to_come
            if not self._taken[client]:
                del self._taken[client]

    def _refuse_if_full(self, client: str, more_bytes: int, *, to_come: int = 0, share: float = 1) -> None:
        left_bytes = self._most_bytes - self._taken.total() - more_bytes
        if left_bytes < _LEFT_FOR_A_BYTE * (self._taken[client] + more_bytes):
            raise _no_room("as much is on its way as there is room for")
        try:
            to_come += self._to_come
            refuse_if_full(room_at(self._folder), self._min_free_gb, more_bytes=to_come, share=share)
        except StoreError as error:
            raise _no_room("the disk of temporary files is full") from error


def _no_room(message: str) -> UnmixError:
    return UnmixError(message, code="no_room", retryable=True)
