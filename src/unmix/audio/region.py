"""The part of a song that is to be separated, in samples."""

import math

from unmix.audio.formats import SAMPLE_RATE
from unmix.errors import InputError


def region_of(start: float, end: float | None, *, samples: int) -> range:
    """Return the samples of a song of so many `samples` from `start` to `end` in seconds; None is the song's end.

    Raises:
        InputError: there is nothing between the two, or they lie outside of the song (`bad_region`).
    """
    if not math.isfinite(start) or not (end is None or math.isfinite(end)):
        raise InputError("start and end have to be finite", code="bad_region")
    region = range(round(start * SAMPLE_RATE), samples if end is None else round(end * SAMPLE_RATE))
    if not 0 <= region.start < region.stop <= samples:
        length = samples / SAMPLE_RATE
        raise InputError(f"start has to be before end, and both within the song's {length:.3f} s", code="bad_region")
    return region
