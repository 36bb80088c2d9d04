"""How a song may be gone through: how far its windows overlap, and how often it is separated, shifted, and averaged.

Only what may be chosen, for whoever takes it from a client; `unmix.engine.passes` says what it means.
"""

from typing import Final

from unmix.errors import InputError

#: Part of a window that it shares with the next one; demucs' default.
OVERLAP: Final = 0.25
#: The least and the most that may be chosen: at the most a song takes three times as long as by default.
OVERLAPS: Final = (0.1, 0.75)
#: Most shifts: each takes as long as the song does without any.
MOST_SHIFTS: Final = 5


def check_passes(overlap: float, shifts: int) -> None:
    """Refuse what a song is not separated with (`out_of_range`, an `InputError`)."""
    least, most = OVERLAPS
    if not least <= overlap <= most:  # nor if it is no number
        raise InputError(f"overlap has to be from {least} to {most}", code="out_of_range")
    if not 0 <= shifts <= MOST_SHIFTS:
        raise InputError(f"shifts have to be from 0 to {MOST_SHIFTS}", code="out_of_range")
