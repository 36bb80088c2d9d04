"""A song's level: what demucs normalises it by, measured once by whoever decodes the whole song first.

The check of an upload measures it, the request document keeps it, and the engine then decodes the song once instead of
twice. All measure with this module, chunk by chunk in the same order, so that the engine's samples are the same bits
whether it measures or is told. Loads numpy and the decoder only where it is needed: REST reads levels, too.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from unmix.audio.samples import Samples


@dataclass(frozen=True, slots=True)
class Level:
    """Length, mean and standard deviation of a song's mono mix; and its length in its own rate, if that is known."""

    samples: int  # per channel
    mean: float
    std: float  # plus demucs' 1e-8, so that silence stays silence
    measured_by: str  # see `measuring`
    own_rate: int = 0  # Hz; 0: of what is no song
    own_samples: int = 0  # per channel, in that rate

    @classmethod
    def of(cls, mixture: "Iterable[Samples]") -> Self:
        """Measure a whole song, float32 (2, time) in chunks, in float64: in float32 it would depend on the chunks."""
        samples, mean, squares = 0, 0.0, 0.0  # squares: the sum of squared distances to the mean
        for chunk in mixture:
            mono = chunk.mean(0, dtype="float64")
            length, chunk_mean = len(mono), float(mono.mean())
            distance, mono = chunk_mean - mean, mono - chunk_mean
            squares += float((mono * mono).sum())
            squares += distance**2 * samples * length / (samples + length)
            samples += length
            mean += distance * length / samples
        return cls(samples, mean, sqrt(squares / max(1, samples - 1)) + 1e-8, measuring())

    @property
    def is_of_this_version(self) -> bool:
        """Whether the song would be measured the same here: another version may decode it to other samples."""
        return self.measured_by == measuring()


@cache
def measuring() -> str:
    """Return a digest of all that decides a level beside the song: the code of this package, FFmpeg's and numpy's."""
    import av
    import numpy as np

    digest = hashlib.sha256(f"{av.__version__} {av.library_versions} {np.__version__}".encode())
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()[:16]
