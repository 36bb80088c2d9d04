"""Speeds: how long workers take for songs, learnt from those that they have done, so that somebody can say how long.

Of each model there are the sums of a line through (seconds of song, seconds of work). Older songs count less and less.
"""

from dataclasses import dataclass
from typing import Final, cast

from unmix.queue.keys import SPEED_PREFIX
from unmix.queue.link import RedisLink

#: When so many songs have been counted, all that is known counts half.
_SONGS: Final = 64
_FIELDS: Final = ("songs", "song_seconds", "work_seconds", "squares", "products")


@dataclass(frozen=True, slots=True)
class Speed:
    """What a song costs a worker, in seconds: so much for itself, and so much for each of its seconds."""

    per_song: float
    per_second: float

    def seconds(self, song_seconds: float) -> float:
        """Return how long a song is expected to take."""
        return self.per_song + self.per_second * song_seconds


class Speeds:
    """The speeds of all models. Every method raises `QueueError` when Redis is away."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def note(self, model: str, *, song_seconds: float, work_seconds: float) -> None:
        """Count a song that one worker has done by itself."""
        added = (1.0, song_seconds, work_seconds, song_seconds**2, song_seconds * work_seconds)
        self._link.run("note_speed", [SPEED_PREFIX + model], _SONGS, *(f"{value:.6f}" for value in added))

    def get(self, model: str) -> Speed | None:
        """Return how fast songs are with a model, None if none was done yet."""
        with self._link.errors():
            values = cast(list[str | None], self._link.client.hmget(SPEED_PREFIX + model, _FIELDS))
        count, song, work, squares, products = (float(value or 0) for value in values)
        if not count or not song:
            return None
        spread = count * squares - song * song
        slope = (count * products - song * work) / spread if spread > 0.01 * song * song else work / song
        # Songs of one length, or by chance: a line that says less than nothing for short or long songs is none.
        slope = min(max(slope, 0.0), work / song)
        return Speed(max(0.0, (work - slope * song) / count), slope)
