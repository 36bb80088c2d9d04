"""The demo model: the published HTDemucs class, small.

Owns the sizes and the use of a model on a whole song; `train` fits it, `export` writes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from demucs.apply import Model, apply_model
from demucs.htdemucs import HTDemucs
from numpy.typing import NDArray

from training.mix import SOURCES

#: Training crops are exactly one segment, so positions and normalisation never differ at use.
SEGMENT_SECONDS = 3

#: Arguments of HTDemucs, each chosen by what it reached after equal minutes (README: "What was
#: tried"): magnitudes with the mixture's phase (`cac=False`), a spectral branch that is wide at
#: its fine layers and grows slowly, 3 x 3 contexts in encoder and decoder in place of a transformer.
ARCHITECTURE: dict[str, Any] = {
    "sources": list(SOURCES),
    "segment": SEGMENT_SECONDS,
    "channels": 32,
    "channels_time": 8,
    "growth": 1.5,
    "context_enc": 1,
    "dconv_mode": 0,
    "t_layers": 0,
    "cac": False,
    "wiener_iters": -1,
    "end_iters": -1,
}


def build(seed: int) -> HTDemucs:
    """Return an untrained model whose weights this seed determines."""
    torch.manual_seed(seed)
    model: HTDemucs = HTDemucs(**ARCHITECTURE)
    return model


def separate(model: Model, mixture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Separate a song as demucs does by default, less its random shift.

    mixture: float32 (2, time) → float32 (4, 2, time) in the model's order. The song is normalised
    by the mean and deviation of its mono mix, as `demucs.separate` does.
    """
    audio = torch.from_numpy(mixture)
    mono = audio.mean(dim=0)
    mean, deviation = mono.mean(), mono.std() + 1e-8
    normalised = ((audio - mean) / deviation)[None]
    with torch.no_grad():
        stems = apply_model(model, normalised, shifts=0, overlap=0.25, split=True)[0]
    audible: NDArray[np.float32] = (stems * deviation + mean).numpy()
    return audible
