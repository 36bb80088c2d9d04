"""What a model needs of a machine's memory, and how memory that is no longer needed gets back to the system."""

import ctypes
import gc
from contextlib import suppress
from typing import Final

import torch

from unmix.engine.models import LoadedModel

#: MiB that Python, torch and demucs take, with a window of samples and the encoders of its stems.
_BASE_MB: Final = 560
#: How many times its float32 weights a model takes when it computes: its backend's copy of them, and its activations.
#: Measured, for the architecture of `htdemucs` (160 MiB of weights) and the demo model: docs/engine.md.
_TIMES_WEIGHTS: Final = 3.4


def needed_mb(model: LoadedModel, device: str) -> int:
    """Return how many MiB, mapped files aside, a process needs to separate all stems with `model`; 0: not known."""
    if device != "cpu":
        return 0
    weights = sum(parameter.numel() for parameter in model.module.parameters())
    return round(_BASE_MB + _TIMES_WEIGHTS * weights * 4 / (1 << 20))


def give_back() -> None:
    """Return what nothing refers to any more to the system, and to others on the device."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.get_device_module(torch.accelerator.current_accelerator()).empty_cache()
    with suppress(AttributeError, OSError):  # only glibc has to be told
        ctypes.CDLL(None).malloc_trim(0)
