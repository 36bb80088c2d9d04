"""The room that bodies of requests may take on the disk while they come in and until they are answered.

Waitress keeps each body in a temporary file. Here is how many bytes there are in all of them, and how many there may
be: what has no room is refused before it is read, or where it outgrows the room.
"""

import shutil
import tempfile
import threading
from typing import Final

#: Bodies up to this size are not asked about: waitress keeps them in memory.
SMALL_BYTES: Final = 512 * 1024


class BodyRoom:
    """Counts the bytes of bodies; any thread may ask."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._taken_bytes = 0
        self._lock = threading.Lock()

    def fits(self, size_bytes: int) -> bool:
        """Tell whether a body of this size would have room now, on the disk too."""
        if size_bytes <= SMALL_BYTES:
            return True
        has_room = self._taken_bytes + size_bytes <= self._most_bytes
        return has_room and size_bytes <= shutil.disk_usage(tempfile.gettempdir()).free

    def take(self, size_bytes: int) -> bool:
        """Count bytes that came, and tell whether there was room for them; they are counted in any case."""
        with self._lock:
            self._taken_bytes += size_bytes
            return self._taken_bytes <= self._most_bytes

    def give_back(self, size_bytes: int) -> None:
        """Count bytes no more."""
        with self._lock:
            self._taken_bytes -= size_bytes
