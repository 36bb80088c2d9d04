"""Passes: how a song is gone through, once in the plain way, or several times shifted and averaged.

A model hears a song a little differently when it begins a little later: demucs puts up to half a second of silence in
front of it, takes that from the estimates, and averages them over such `shifts`. It draws the silence at random; here
it follows from the song, so that every worker makes the same of it. `segments` has the windows of each pass.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from unmix import names
from unmix.audio.passes import OVERLAP, check_passes

#: Longest silence that is put in front of a song.
_MOST_SILENCE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Passes:
    """How far windows overlap, and how often a song is separated: with `shifts`, each time shifted."""

    overlap: float = OVERLAP
    shifts: int = 0
    seed: str = ""  # what the shifts follow from: the song's hash

    @classmethod
    def of(cls, song: Path, overlap: float, shifts: int) -> Self:
        """Plan to separate `song`, which is read for its hash only if it is shifted.

        Raises:
            InputError: there are no such passes (`out_of_range`).
        """
        check_passes(overlap, shifts)
        return cls(overlap, shifts, names.hash_file(song) if shifts else "")

    def silences(self, model: int, sample_rate: int) -> tuple[int, ...]:
        """Return how many samples of silence are put in front of the song in each pass with this model of a bag."""
        if not self.shifts:
            return (0,)
        most = int(_MOST_SILENCE_SECONDS * sample_rate)
        return tuple(self._drawn(model, shift) % (most + 1) for shift in range(self.shifts))

    def _drawn(self, model: int, shift: int) -> int:
        """Draw a number: not by `random`, whose numbers may be others in another version of Python."""
        return int.from_bytes(hashlib.sha256(f"{self.seed} {model} {shift}".encode()).digest())
