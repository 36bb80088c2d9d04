"""Quality: how close an estimate is to the true source."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def sdr_db(source: NDArray[Any], estimate: NDArray[Any]) -> float:
    """Return the signal-to-distortion ratio of `estimate` to the true `source` in dB.

    10 · log10(Σ source² / Σ (source − estimate)²) over all channels and samples: the plain ratio of the Music Demixing
    Challenge 2021 (Mitsufuji et al., section on evaluation), which allows no scaling or filtering. Both arrays are
    (channels, time). Infinite for a perfect estimate; NaN where source and estimate are both silent.
    """
    truth = np.asarray(source, dtype=np.float64)
    error = truth - np.asarray(estimate, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(np.square(truth).sum() / np.square(error).sum()))
