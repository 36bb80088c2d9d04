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

from unmix.engine.faults import fault_of
from unmix.errors import EngineError, OutOfMemoryError

log = structlog.get_logger()

#: Windows that a GPU is given at once, until its memory says otherwise; a CPU gains nothing from more than one.
_GPU_BATCH: Final = 8
#: So many calls must go well before a batch that was halved is doubled again; each time twice as many as before.
_PATIENCE: Final = 32


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
            OutOfMemoryError: there is too little memory for one window.
            DeviceError: the device failed, and will fail again.
            EngineError: the model failed.
        """


class TorchEstimator:
    """The model as demucs wrote it, in float32 or, with `bf16`, in bfloat16 where that does not hurt (autocast)."""

    def __init__(self, model: Any, *, device: str, bf16: bool) -> None:
        self.model = model.to(device)
        self.batch = 1 if device == "cpu" else _GPU_BATCH
        self._most = 0  # the batch that was halved first
        self._good_calls = 0  # since the batch last changed
        self._patience = _PATIENCE
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
        """See `Estimator`. Halves its batch when there is too little memory for it, and doubles it again later."""
        estimates: list[Tensor] = []
        while (done := sum(map(len, estimates))) < len(mixtures):
            batch = mixtures[done : done + self.batch]
            tried = self._tried(batch, sources)
            if tried is None:
                self._halve(len(batch))
            else:
                estimates.append(tried)
        self._grow()
        return torch.cat(estimates)

    def _tried(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor | None:
        """Estimate the sources in a batch; None if there is too little memory for it and a smaller one may do."""
        try:
            return self._estimated(mixtures, sources).to(self.device)
        except (RuntimeError, ValueError, MemoryError) as error:
            fault = fault_of(error) or EngineError(f"the model failed: {error}")
            if isinstance(fault, OutOfMemoryError) and len(mixtures) > 1:
                return None
            raise fault from error

    def _halve(self, batch: int) -> None:
        """Learn that `batch` windows are too many. Called when nothing holds on to those that were tried."""
        self._most = max(self._most, self.batch)
        self._good_calls = 0
        self.batch = batch // 2
        log.warning("too little memory, halving the batch", batch=self.batch)
        if self._device.type != "cpu":  # what torch keeps for itself, cuFFT and its like cannot have
            torch.get_device_module(self._device).empty_cache()

    def _grow(self) -> None:
        """Try a batch that was halved once more when all went well for long: others may have used the memory."""
        self._good_calls += 1
        if self.batch < self._most and self._good_calls >= self._patience:
            self._good_calls = 0
            self._patience *= 2
            self.batch = min(2 * self.batch, self._most)

    def _estimated(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            # The transforms stay in float32: autocast leaves them alone.
            estimates: Tensor = self.model(mixtures.to(self._device))
            return estimates[:, list(sources)].float()
