"""Estimators: one model of demucs made ready to run, whatever library computes it.

The narrow interface between `segments`, which knows windows, and the backends, which know hardware. Here is the one
that every model and every device has: torch, the model's own code. `openvino_backend` and `device_estimator` have
those for hybrid transformers, on a CPU and on a GPU.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import structlog
import torch
from torch import Tensor

from unmix.errors import EngineError

log = structlog.get_logger()

#: Windows that a GPU is given at once, until its memory says otherwise; a CPU gains nothing from more than one.
_GPU_BATCH: Final = 8


class Estimator(Protocol):
    """One model, ready to estimate."""

    @property
    def model(self) -> Any:
        """The model of demucs, for what it says of its windows; its weights may be gone."""

    @property
    def batch(self) -> int:
        """How many windows it likes to get at once."""

    @property
    def device(self) -> torch.device:
        """Where it takes windows and leaves estimates; not always where it computes."""

    def __call__(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        """Estimate the sources with these indexes in windows of one length.

        `mixtures` is (batch, channels, time), normalised; returns (batch, sources, channels, time), both float32 on
        `device`. The windows beside a window change its estimates by no more than rounding.

        Raises:
            EngineError: the device ran out of memory (`out_of_memory`), or the model failed.
        """


class TorchEstimator:
    """The model as demucs wrote it, in float32 or, with `bf16`, in bfloat16 where that does not hurt (autocast)."""

    def __init__(self, model: Any, *, device: str, bf16: bool) -> None:
        self.model = model.to(device)
        self.batch = 1 if device == "cpu" else _GPU_BATCH
        self._device = torch.device(device)
        self._bf16 = bf16
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = bf16  # on by default, with 10 bits of mantissa
        torch.backends.mha.set_fastpath_enabled(False)  # 1.08 times faster without, to 138 dB the same

    @property
    def device(self) -> torch.device:
        """See `Estimator`."""
        return torch.device("cpu")

    def __call__(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        """See `Estimator`. Halves its batch when the device has too little memory for it."""
        estimates: list[Tensor] = []
        while (done := sum(map(len, estimates))) < len(mixtures):
            batch = mixtures[done : done + self.batch]
            try:
                estimates.append(self._estimated(batch, sources).to(self.device))
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    message = f"{self._device} has too little memory for one window"
                    raise EngineError(message, code="out_of_memory", retryable=True) from error
                self.batch = len(batch) // 2
                log.warning("too little memory on the device, halving the batch", batch=self.batch)
            except (RuntimeError, ValueError) as error:
                raise EngineError(f"the model failed: {error}") from error
        return torch.cat(estimates)

    def _estimated(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            # The transforms stay in float32: autocast leaves them alone.
            estimates: Tensor = self.model(mixtures.to(self._device))
            return estimates[:, list(sources)].float()
