"""Peaks: the lowest and the highest sample of every tenth of a second of a stem, to draw it without decoding it.

As in the data files of audiowaveform, which many players read: eight bits, lowest and highest in turn, both channels
together. The stretches lie on a grid that begins with the song, so peaks of neighbouring parts can be put together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from unmix.audio.samples import SAMPLE_RATE

#: Samples of one pair of peaks. They divide the parts of `htdemucs` evenly.
PEAK_SAMPLES: Final = 4410
#: Most pairs of a song's stem: a longer song gets a coarser drawing, not a bigger one.
MOST_PAIRS: Final = 4096


class Peaks:
    """Collects the peaks of one stem; `start` is where in the song its first sample lies."""

    def __init__(self, start: int = 0) -> None:
        self.values: list[int] = []
        self._at = start

    def add(self, pcm: NDArray[Any]) -> None:
        """Go on with `pcm` (2, time): int16, 24 bits as the highest of int32, or float32 with full scale ±1."""
        first, length = self._at, pcm.shape[1]
        inner = np.arange(PEAK_SAMPLES - first % PEAK_SAMPLES, length, PEAK_SAMPLES)
        begins = np.concatenate([[0], inner])
        lowest = _eight_bits(np.minimum.reduceat(np.minimum(*pcm), begins))
        highest = _eight_bits(np.maximum.reduceat(np.maximum(*pcm), begins))
        values = np.stack([lowest, highest], axis=1).ravel().tolist()
        if self.values and first % PEAK_SAMPLES:  # the last stretch goes on
            self.values[-2:] = [min(self.values[-2], values[0]), max(self.values[-1], values[1])]
            values = values[2:]
        self.values += values
        self._at += length


def of_song(stems: Mapping[str, list[int]], beats: Sequence[float] = ()) -> dict[str, Any]:
    """Return the document that a finished job has: all its stems, as coarse as their length asks for, and its beats.

    `beats` are in seconds from the first sample of the stems on.
    """
    samples = PEAK_SAMPLES
    while any(len(values) > 2 * MOST_PAIRS for values in stems.values()):
        stems = {stem: _halved(values) for stem, values in stems.items()}
        samples *= 2
    return {
        "version": 1,
        "sample_rate": SAMPLE_RATE,
        "samples_per_pixel": samples,
        "bits": 8,
        "stems": dict(stems),
        "beats": [round(beat, 3) for beat in beats],
    }


def _halved(values: list[int]) -> list[int]:
    pairs = np.array(values).reshape(-1, 2)
    begins = np.arange(0, len(pairs), 2)
    lowest, highest = np.minimum.reduceat(pairs[:, 0], begins), np.maximum.reduceat(pairs[:, 1], begins)
    halved: list[int] = np.stack([lowest, highest], axis=1).ravel().tolist()
    return halved


def _eight_bits(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.dtype.kind == "f":
        samples = np.floor(samples * 128).clip(-128, 127).astype(np.int8)
    shifted: NDArray[Any] = samples >> (8 * samples.dtype.itemsize - 8)
    return shifted
