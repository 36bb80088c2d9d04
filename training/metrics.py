"""Separation figures: plain functions on arrays of true and estimated stems.

Owns the formulas only; `evaluate` applies them to songs, `train` to its validation songs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Keeps silent stems finite; below any audible power.
_FLOOR = 1e-10


def sdr_db(truth: NDArray[np.float32], estimate: NDArray[np.float32]) -> NDArray[np.float64]:
    """Signal-to-distortion ratio per stem: 10·log10(Σs² / Σ(s−ŝ)²) over channels and time.

    truth, estimate: float32 (stems, 2, time) → float64 (stems,). This is the "new SDR" of
    Mitsufuji et al., "Music Demixing Challenge 2021": no shift, scale or filter is forgiven.
    """
    signal = np.square(truth, dtype=np.float64).sum(axis=(1, 2))
    distortion = np.square(truth - estimate, dtype=np.float64).sum(axis=(1, 2))
    ratio: NDArray[np.float64] = (signal + _FLOOR) / (distortion + _FLOOR)
    return 10 * np.log10(ratio)


def routing(outputs: NDArray[np.float32], source: int) -> float:
    """Share of output energy (0..1) in the stem `source` when it alone was the input.

    outputs: float32 (stems, 2, time).
    """
    energy = np.square(outputs, dtype=np.float64).sum(axis=(1, 2))
    return float(energy[source] / (energy.sum() + _FLOOR))
