"""Bodies in chunks, as waitress reads them, with a bound on what is said about the chunks.

Waitress looks through a size line or a trailer from its beginning with each piece that comes of it, however long it has
grown, and copies what it has read with each chunk. So a body that consists of frames and no song costs its sender
nothing and the loop of the sockets everything.
"""

from typing import Any, Final

from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

#: Longest size line with its extensions, and longest trailers, in bytes. Nobody here reads either.
MOST_LINE_BYTES: Final = 1024
MOST_TRAILER_BYTES: Final = 4096
#: How many bytes of frames there may be beside as many of the body. Chunks of some bytes each are no honest client's.
MOST_FRAME_BYTES: Final = 64 * 1024
#: What is read at once; within it the cost of each chunk grows.
_STEP_BYTES: Final = 4096


class Chunks(ChunkedReceiver):
    """Reads one body in chunks."""

    chunk_remainder: int  # bytes of the current chunk that are still to come, as waitress counts them
    _read_bytes = 0

    def received(self, s: bytes) -> int:
        """Read on, and return how many bytes of `s` were of this body; `error` is set if it is none."""
        consumed = 0
        while consumed < len(s) and not self.completed and self.error is None:
            step = s[consumed : consumed + max(_STEP_BYTES, self.chunk_remainder)]
            consumed += super().received(step)
            if self._is_beyond_bounds(consumed):
                self.error: Any = BadRequest("more is said about the chunks than there is in them")
        self._read_bytes += consumed
        return consumed

    def _is_beyond_bounds(self, consumed: int) -> bool:
        frames = self._read_bytes + consumed - len(self)
        return (
            len(self.control_line) > MOST_LINE_BYTES
            or len(self.trailer) > MOST_TRAILER_BYTES
            or frames > MOST_FRAME_BYTES + len(self)
        )
