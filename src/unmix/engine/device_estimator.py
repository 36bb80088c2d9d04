"""The estimator for GPUs: batches of one size, of windows that are on the device already, through `DeviceNetwork`.

On a CUDA device the network is recorded as a graph for that size, so a batch costs the CPU a few dozen calls instead of
thousands. It runs on any device of torch, and gives the same there: so it is tested on the CPU.
"""

from collections.abc import Sequence
from typing import Any

import structlog
import torch
from torch import Tensor
from torch.nn import functional

from unmix.engine.device_network import DeviceNetwork
from unmix.engine.estimators import TorchEstimator
from unmix.engine.faults import fault_of

log = structlog.get_logger()


class DeviceEstimator(TorchEstimator):
    """A hybrid transformer on `device`, in float32 or, with `bf16`, in bfloat16 but for transforms and levels.

    Raises:
        UnsupportedModelError: the model is no hybrid transformer of the published form; it was not touched.
    """

    def __init__(self, model: Any, *, device: str, bf16: bool) -> None:
        self.network = DeviceNetwork(model, device=torch.device(device), bf16=bf16)
        super().__init__(model, device=device, bf16=bf16)
        self._can_record = self._device.type == "cuda"
        self._recorded = 0  # windows

    @property
    def device(self) -> torch.device:
        """See `Estimator`."""
        return self._device

    def __call__(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        """See `Estimator`. Silence fills the last batch up: one recording serves them all."""
        missing = -len(mixtures) % self.batch
        return super().__call__(functional.pad(mixtures, (0, 0, 0, 0, 0, missing)), sources)[: len(mixtures)]

    def prepare(self) -> None:
        """Take the time and the memory that the first call would take.

        Raises:
            EngineError: as a call.
        """
        samples = int(self.model.segment * self.model.samplerate)
        with torch.inference_mode():
            self(torch.zeros(self.batch, self.model.audio_channels, samples, device=self._device), [0])

    def _estimated(self, mixtures: Tensor, sources: Sequence[int]) -> Tensor:
        if self._can_record and len(mixtures) == self.batch != self._recorded:
            self._record()
        return self.network(mixtures, sources)

    def _record(self) -> None:
        self._recorded = 0
        try:
            self.network.record(self.batch)
        except RuntimeError as error:
            if fault_of(error):
                raise
            # Slower, but right without.
            self._can_record = False
            log.warning("the network cannot be recorded as a CUDA graph", error=str(error))
        else:
            self._recorded = self.batch
