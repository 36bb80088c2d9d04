"""Whether torch can compute on a device here, and if not, why not and what helps.

Nothing falls back to another device by itself: a song on the CPU in place of a GPU would only be slow, and nobody told.
"""

import platform
from typing import Final

import torch

from unmix.errors import EngineError

_NAMES: Final = "there may be cpu, cuda (or cuda:1, the second GPU) and mps"


def check_device(name: str) -> None:
    """Refuse a device that is not there.

    Raises:
        EngineError: `device_unavailable`; says what is missing, and what to do about it.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _unavailable(name, f"there is none of this name; {_NAMES}") from error
    if device.type == "cuda":
        hindrance = _cuda_hindrance(device.index or 0)
    elif device.type == "mps":
        hindrance = _mps_hindrance()
    else:
        hindrance = "" if device.type == "cpu" else f"models are not computed there; {_NAMES}"
    if hindrance:
        raise _unavailable(name, hindrance)


def _cuda_hindrance(index: int) -> str:
    """Return why there is no GPU `index` for CUDA; empty if there is."""
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if index < count:
            return ""
        return f"of {count} GPUs the last is cuda:{count - 1}" if count > 1 else "there is one GPU, cuda:0"
    if torch.backends.cuda.is_built():
        return (
            f"torch {torch.__version__} finds no GPU for CUDA: {_cuda_fault()}; `nvidia-smi` has to list one, and a "
            "container has to be given it"
        )
    return (
        f"this torch has no CUDA: {torch.__version__} was built without it; `make setup CUDA=cu130` installs a "
        "build that has it, `make images CUDA=cu130` puts it into the worker's image"
    )


def _cuda_fault() -> str:
    """Return what torch says when it has to use a GPU: that there is no driver, that it is too old, or no GPU."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).partition(". ")[0].strip().rstrip(".")
    return "it does not say why"


def _mps_hindrance() -> str:
    """Return why there is no GPU for MPS; empty if there is."""
    if torch.backends.mps.is_available():
        return ""
    if not torch.backends.mps.is_built():
        return f"this torch has no MPS: {torch.__version__} was built without it; one for Apple silicon has it"
    if not torch.backends.mps.is_macos_or_newer(14, 0):
        return f"torch needs macOS 14 for MPS, and this is {platform.mac_ver()[0] or 'an older one'}"
    return "torch finds no GPU for MPS; a Mac with Apple silicon has one, a virtual machine on it may not"


def _unavailable(name: str, reason: str) -> EngineError:
    return EngineError(f"the device {name!r} is not available: {reason}", code="device_unavailable")
