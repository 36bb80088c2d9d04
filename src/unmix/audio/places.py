"""Places: how much silence a song needs where its file has no sound, so that all that follows keeps its place.

That is where the sound begins later than the picture beside it, and where frames are damaged: time stamps say how long
they were or, of frames that follow each other bare, their bytes. `unmix.audio.decoding` asks, and makes the silence.
"""

from typing import Any, Final

from av.stream import Disposition

from unmix.audio.opening import Opened

#: Time stamps of some containers are no better than this, and nobody hears it.
_LEAST_SECONDS: Final = 0.01
#: More is no place but a wrong time stamp: of what was lost in one place, and of what begins late.
_MOST_LOST_SECONDS: Final = 60.0
_MOST_LATE_SECONDS: Final = 3600.0


class Places:
    """What is known of where the sound of a song, or of a link of a chain, has its place."""

    def __init__(self, opened: Opened, *, has_bare_frames: bool) -> None:
        self.late_seconds = _late_seconds(opened)
        self._has_bare_frames = has_bare_frames
        self._is_damaged = False
        self._end_seconds: float | None = None  # of what was read last
        self._end_byte = 0
        self._packets = self._bytes = 0  # that were read
        self._packet_seconds = 0.0  # of the last one: all are as long

    def damaged(self) -> None:
        """Note that something was left out."""
        self._is_damaged = True

    def lost_before(self, packet: Any, frame: Any) -> float:
        """Return how many seconds were left out before `packet`, whose first frame is `frame`."""
        if not self._is_damaged:
            return 0.0
        self._is_damaged = False
        if self._end_seconds is None:  # there is nothing that it would have to keep its place to
            return 0.0
        seconds = 0.0 if frame.time is None else frame.time - self._end_seconds
        if self._has_bare_frames and packet.pos is not None and self._packets:
            packets = round((packet.pos - self._end_byte) * self._packets / self._bytes)
            seconds = max(seconds, packets * self._packet_seconds)
        return _plausible(seconds, most=_MOST_LOST_SECONDS)

    def read(self, packet: Any, frames: list[Any]) -> None:
        """Note what was read."""
        last = frames[-1]
        self._end_seconds = None if last.time is None else last.time + last.samples / last.sample_rate
        if self._has_bare_frames and packet.pos is not None:
            self._end_byte = packet.pos + packet.size
            self._packets += 1
            self._bytes += packet.size
            self._packet_seconds = sum(frame.samples for frame in frames) / last.sample_rate


def _late_seconds(opened: Opened) -> float:
    """Return how much later the song begins than what the file shows or plays first."""
    streams = opened.container.streams
    begins = [
        float(each.start_time * each.time_base)
        for each in (*streams.video, *streams.audio)
        if each.start_time is not None and not each.disposition & Disposition.attached_pic
    ]
    if opened.stream.start_time is None:
        return 0.0
    late = float(opened.stream.start_time * opened.stream.time_base) - min(begins)
    return _plausible(late, most=_MOST_LATE_SECONDS)


def _plausible(seconds: float, *, most: float) -> float:
    return seconds if _LEAST_SECONDS <= seconds <= most else 0.0
