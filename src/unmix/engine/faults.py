"""What an exception of torch, OpenVINO or Python says of the device: that its memory is full, or that it is broken.

Most come as a plain `RuntimeError` and are told by their words. Here is the one list of these words. A full memory may
pass, and less at once may help. A broken device helps nobody in this process any more: after a CUDA kernel has failed,
every later call fails too, whatever it is asked. So the process has to end, which is the worker's business.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from unmix.errors import DeviceError, EngineError, OutOfMemoryError

#: Memory. The libraries beside torch's allocator (cuBLAS, cuDNN, cuFFT, and their like for HIP) do not say it that
#: clearly: they fail to initialise, or inside, when they get none, as torch itself has all of it.
_MEMORY: Final = re.compile(
    r"out.of.memory|(not enough|cannot allocate|can't allocate) memory|failed to allocate|alloc(ation)?_?failed"
    r"|bad.alloc|invalid buffer size"
    r"|(cublas|cudnn|cusolver|hipblas|miopen)_status_not_initialized|cudnn_status_internal_error|(cu|hip)fft_internal_error"
    r"|unable to find (a valid cudnn algorithm|an engine to execute)",
    re.IGNORECASE,
)
#: A device that has failed, from libraries that do not raise `torch.AcceleratorError` for it.
_DEVICE: Final = re.compile(
    r"\b(cuda|hip)( driver| unknown)? error\b|triton error"
    r"|(cudnn|miopen)_status_execution_failed|(cu|hip)fft_exec_failed",
    re.IGNORECASE,
)


def fault_of(error: BaseException) -> EngineError | None:
    """Return `OutOfMemoryError` or `DeviceError` if that is what `error` means; None if it means something else."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return OutOfMemoryError(f"too little memory: {_said(error)}")
    if not isinstance(error, RuntimeError):
        return None
    if _MEMORY.search(str(error)):
        return OutOfMemoryError(f"too little memory: {_said(error)}")
    if isinstance(error, torch.AcceleratorError) or _DEVICE.search(str(error)):
        return DeviceError(f"the device failed: {_said(error)}")
    return None


@contextmanager
def faults_named() -> Iterator[None]:
    """Raise a fault of the device as what it is; everything else passes as it came."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if fault := fault_of(error):
            raise fault from error
        raise


def _said(error: BaseException) -> str:
    """Return the first line of what was said: torch adds advice on debugging below."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
