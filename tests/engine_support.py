"""What tests of the engine share: models made ready to run, and the estimates of whole songs as tensors."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from demucs.apply import BagOfModels, apply_model
from torch import Tensor

from audio_files import music
from demucs_models import save_safetensors
from unmix.engine.backends import Backend, Engine, Precision, make_engine
from unmix.engine.estimators import Estimator
from unmix.engine.models import LoadedModel, load_model
from unmix.engine.passes import Passes
from unmix.engine.segments import SegmentStream


def loaded(model: Any, folder: Path, name: str = "small") -> LoadedModel:
    """Save `model` in `folder` and load it as users do."""
    save_safetensors(model, folder / f"{name}.safetensors")
    return load_model(name, model_dir=folder)


def engine_of(
    model: LoadedModel,
    cache_dir: Path,
    *,
    backend: Backend = "openvino",
    precision: Precision = "exact",
    threads: int = 1,
) -> Engine:
    return make_engine(model, device="cpu", backend=backend, precision=precision, threads=threads, cache_dir=cache_dir)


def mixture_of(samples: int) -> Tensor:
    return torch.from_numpy(music(samples))


def estimated(
    estimators: Sequence[Estimator],
    bag: BagOfModels,
    mixture: Tensor,
    *,
    sources: Sequence[int] = (),
    chunk: int = 7_001,
    region: range | None = None,
    passes: Passes | None = None,
) -> Tensor:
    """Return the estimates (sources, channels, time), all sources if none are named, in `mixture` (channels, time)."""
    sources, samples = sources or range(len(bag.sources)), mixture.shape[-1]
    segments = SegmentStream(estimators, bag.weights, samples, sources, region, passes)
    with torch.inference_mode():
        stretches = segments.estimates(mixture.split(chunk, dim=-1), lambda done: None)
        return torch.cat([estimates for _, estimates in stretches], dim=-1)


def reference(bag: BagOfModels, mixture: Tensor, passes: Passes | None = None) -> Tensor:
    """Return what demucs itself estimates in float32, (sources, channels, time); it shifts as `passes` say."""
    passes = passes or Passes()
    draws: Iterator[int] = (
        int(0.5 * model.samplerate) - silence  # demucs draws where in half a second of silence it begins
        for index, model in enumerate(cast(Iterable[Any], bag.models))
        for silence in passes.silences(index, model.samplerate)
    )
    with patch("demucs.apply.random.randint", lambda *_: next(draws)):
        estimates: Tensor = apply_model(bag, mixture[None], shifts=passes.shifts, split=True, overlap=passes.overlap)[0]
    return estimates
