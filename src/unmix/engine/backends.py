"""Backends: which library computes a model on this machine, and how precisely.

`auto` takes the fastest that the machine and the model allow; what is asked for by name and is not there is an error.
Two precisions are on offer:

* `exact`: float32. Every backend agrees with demucs to more than 60 dB (measured: 89 dB and more).
* `fast`: bfloat16 where the hardware has it, transforms and sums still in float32; more than 35 dB to `exact`, which
  changes the SDR of stems by hundredths of a decibel (docs/benchmarks.md). Elsewhere the same as `exact`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from unmix.engine.device_estimator import DeviceEstimator
from unmix.engine.device_network import is_device_model
from unmix.engine.devices import check_device
from unmix.engine.estimators import Estimator, TorchEstimator
from unmix.engine.hybrid import HybridNetwork, UnsupportedModelError
from unmix.engine.models import LoadedModel
from unmix.errors import EngineError

Backend = Literal["auto", "torch", "openvino"]
Precision = Literal["exact", "fast"]

# OpenVINO reports its use to a third party as soon as it is imported. Without this package it leaves that be.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
try:
    from unmix.engine import openvino_backend
except ImportError:  # there is no wheel of OpenVINO for every machine
    openvino_backend = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Engine:
    """A model ready to run: an estimator for every model of its bag, and what they are."""

    estimators: Sequence[Estimator]
    backend: str  # library and version, as `openvino 2026.4.1`
    precision: str  # that really runs: `exact` although `fast` was asked for where the hardware knows no bfloat16
    needs_weights: bool  # those of the loaded model: a converted one has its own


def make_engine(
    model: LoadedModel, *, device: str, backend: Backend, precision: Precision, threads: int, cache_dir: Path
) -> Engine:
    """Make `model` ready on `device` with this backend in this precision.

    `threads` is for the CPU. `cache_dir` is where converted models are kept.

    Raises:
        EngineError: `device_unavailable`; `backend_unavailable`: the named backend is not installed, does not run on
            this device or not this model; `conversion_failed`: OpenVINO cannot convert this model, or not load what it
            converted; `estimates_differ`: what was converted gives something else than torch on this machine.
    """
    check_device(device)
    hindrance = _openvino_hindrance(model, device)
    if backend == "openvino" and hindrance:
        raise EngineError(f"the backend openvino is not available: {hindrance}", code="backend_unavailable")
    by_torch = backend == "torch" or bool(hindrance)
    if by_torch:
        bf16 = precision == "fast" and _torch_has_bf16(device)
        estimators = _torch_estimators(model, device=device, bf16=bf16)
        library = f"torch {torch.__version__}"
    else:
        bf16 = precision == "fast" and openvino_backend.has_bf16()
        ready = [
            openvino_backend.OpenVinoEstimator(
                part, key=f"{model.weights_sha256}-{index}", bf16=bf16, threads=threads, cache_dir=cache_dir
            )
            for index, part in enumerate(_parts(model))
        ]
        if len(ready) == 1:  # the models of a bag wait until they are needed: most songs need one of four
            ready[0].prepare()
        estimators = list(ready)
        library = f"openvino {openvino_backend.version()}"
    return Engine(estimators, library, "fast" if bf16 else "exact", needs_weights=by_torch)


def _torch_estimators(model: LoadedModel, *, device: str, bf16: bool) -> Sequence[Estimator]:
    """Make the models of the bag ready, for a GPU all of them in the form that is fast there, or none."""
    parts = _parts(model)
    if torch.device(device).type == "cuda" and all(map(is_device_model, parts)):
        ready = [DeviceEstimator(part, device=device, bf16=bf16) for part in parts]
        if len(ready) == 1:
            ready[0].prepare()
        return ready
    return [TorchEstimator(part, device=device, bf16=bf16) for part in parts]


def _parts(model: LoadedModel) -> list[Any]:
    return list(model.module.models)


def _openvino_hindrance(model: LoadedModel, device: str) -> str:
    """Return why OpenVINO cannot run `model` here; empty if it can."""
    if openvino_backend is None:
        return "the package openvino is not installed"
    if device != "cpu":
        return f"it computes on the CPU, not on {device}"
    try:
        for part in _parts(model):
            HybridNetwork(part)
    except UnsupportedModelError as error:
        return f"it does not run {model.name}: {error}"
    return ""


def _torch_has_bf16(device: str) -> bool:
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
