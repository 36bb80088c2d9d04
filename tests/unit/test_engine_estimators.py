"""Estimators: how many windows are computed at once is not heard, and too little memory for that many is no end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from demucs_models import demucs, hdemucs, htdemucs
from engine_support import estimated, loaded, mixture_of
from unmix.engine.estimators import TorchEstimator
from unmix.engine.sdr import sdr_db
from unmix.engine.segments import SegmentStream
from unmix.errors import EngineError


def in_batches_of(batch: int, model: Any) -> TorchEstimator:
    """Return an estimator that asks for as many windows at once as one on a GPU may."""
    estimator = TorchEstimator(model, device="cpu", bf16=False)
    estimator.batch = batch
    return estimator


@pytest.mark.parametrize("batch", [3, 8])
@pytest.mark.parametrize("make", [htdemucs, hdemucs, lambda: demucs(segment=0.5)])
def test_the_size_of_the_batches_changes_next_to_nothing(make: Callable[[], Any], batch: int, tmp_path: Path) -> None:
    bag, mixture = loaded(make(), tmp_path).module, mixture_of(150_001)
    (model,) = bag.models
    one_by_one = estimated([in_batches_of(1, model)], bag, mixture)
    assert sdr_db(one_by_one.numpy(), estimated([in_batches_of(batch, model)], bag, mixture).numpy()) > 100


def test_every_window_is_computed_once_and_in_full_batches(tmp_path: Path) -> None:
    bag, mixture = loaded(htdemucs(), tmp_path).module, mixture_of(150_001)
    estimator = in_batches_of(8, bag.models[0])
    segments = SegmentStream([estimator], bag.weights, 150_001, range(4))
    done: list[int] = []
    with torch.inference_mode():
        list(segments.estimates(mixture.split(7_001, dim=-1), done.append))
    assert done == [8, 16, 19]


def with_room_for(most: int, model: Any) -> Any:
    """Let `model` run out of memory whenever it gets more than `most` windows at once."""
    forward = model.forward

    def crowded(mixtures: Tensor) -> Any:
        if len(mixtures) > most:
            raise torch.OutOfMemoryError("injected")
        return forward(mixtures)

    model.forward = crowded
    return model


def test_too_little_memory_for_a_batch_halves_it_and_loses_nothing(tmp_path: Path) -> None:
    bag, mixture = loaded(htdemucs(), tmp_path).module, mixture_of(150_001)
    model = bag.models[0]
    expected = estimated([in_batches_of(2, model)], bag, mixture)
    estimator = in_batches_of(8, with_room_for(2, model))
    with capture_logs() as logs:
        estimates = estimated([estimator], bag, mixture)
    assert torch.equal(estimates, expected)
    assert [(line["log_level"], line["batch"]) for line in logs] == [("warning", 4), ("warning", 2)]
    assert estimator.batch == 2  # what was learned holds for the next song


def test_too_little_memory_for_one_window_is_an_error_that_may_pass(tmp_path: Path) -> None:
    bag = loaded(htdemucs(), tmp_path).module
    estimator = in_batches_of(8, with_room_for(0, bag.models[0]))
    with pytest.raises(EngineError, match="too little memory") as caught:
        estimated([estimator], bag, mixture_of(150_001))
    assert caught.value.code == "out_of_memory"
    assert caught.value.retryable
