"""Resampling for models that do not run at 44.1 kHz: the one use of torchaudio, and its only importer.

torchaudio is optional, since no published model of demucs needs it and its wheels must fit the installed torch. Songs
of other rates are FFmpeg's work, in `unmix.audio.decoding`.
"""

from typing import Protocol, cast

from torch import Tensor

from unmix.audio.samples import SAMPLE_RATE
from unmix.errors import EngineError


class Resample(Protocol):
    """Takes (…, time) from one rate in Hz to another; the result is not shorter than the time it covers."""

    def __call__(self, samples: Tensor, old_rate: int, new_rate: int, /) -> Tensor:
        """Return the resampled (…, time)."""


def torchaudio_resample() -> Resample:
    """Return torchaudio's resampler.

    Raises:
        EngineError: torchaudio cannot be imported (`torchaudio_needed`).
    """
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError) as error:  # OSError: torchaudio is there, built for another torch
        raise EngineError(
            f"a model that does not run at {SAMPLE_RATE} Hz needs torchaudio to resample its songs: install the extra "
            "[torchaudio], in a build that fits the installed torch",
            code="torchaudio_needed",
        ) from error
    return cast(Resample, resample)
