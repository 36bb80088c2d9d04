"""Estimators: how many windows are computed at once is not heard, and too little memory for that many is no end.

A GPU's faults are injected with the words of the libraries: none is at hand that would fail when asked to.
"""

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
from unmix.engine.faults import faults_named
from unmix.engine.sdr import sdr_db
from unmix.engine.segments import SegmentStream
from unmix.errors import DeviceError, EngineError, OutOfMemoryError


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


def no_memory_for_torch() -> None:
    torch.empty(2**46)  # what the CPU says when it is really asked


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


#: How those who compute say that memory is short.
SHORT_OF_MEMORY: dict[str, Callable[[], None]] = {
    "CPU": no_memory_for_torch,
    "Python": raising(MemoryError()),
    "C++": raising(MemoryError("std::bad_alloc")),
    "CUDA": raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.91 GiB. GPU 0 has …")),
    "CUDA's runtime": raising(
        torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://…")
    ),
    "HIP": raising(torch.AcceleratorError("HIP error: out of memory")),
    "cuDNN 8": raising(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")),
    "cuDNN 9": raising(RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED")),
    "cuDNN without a handle": raising(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED")),
    "cuDNN inside": raising(RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR")),
    "cuDNN without an engine": raising(RuntimeError("GET was unable to find an engine to execute this computation")),
    "cuDNN without an algorithm": raising(RuntimeError("Unable to find a valid cuDNN algorithm to run convolution")),
    "cuBLAS": raising(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    "cuBLAS without a handle": raising(
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`")
    ),
    "cuFFT inside": raising(RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR")),
    "cuFFT": raising(RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED")),
    "MPS": raising(
        RuntimeError(
            "MPS backend out of memory (MPS allocated: 5.56 GB, other allocations: 1.10 GB, max allowed: 6.80 GB). "
            "Tried to allocate 768.00 MB on private pool."
        )
    ),
    "Metal": raising(RuntimeError("Invalid buffer size: 24.00 GB")),
    "OpenVINO": raising(
        RuntimeError(
            "Exception from src/inference/src/cpp/infer_request.cpp:223:\n"
            "Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257:\n"
            "Failed to allocate 14495514624 bytes of memory"
        )
    ),
    "OpenVINO's standard library": raising(RuntimeError("std::bad_alloc")),
}

#: How they say that the device is broken.
BROKEN: dict[str, Callable[[], None]] = {
    "CUDA": raising(
        torch.AcceleratorError(
            "CUDA error: an illegal memory access was encountered\n"
            "Search for `cudaErrorIllegalAddress' in https://…\n"
            "CUDA kernel errors might be asynchronously reported at some other API call, …"
        )
    ),
    "HIP": raising(torch.AcceleratorError("HIP error: unspecified launch failure")),
    "older torch": raising(RuntimeError("CUDA error: device-side assert triggered")),
    "the driver": raising(RuntimeError("CUDA driver error: unknown error")),
    "cuDNN": raising(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")),
    "cuBLAS": raising(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(…)`")),
    "cuFFT": raising(RuntimeError("cuFFT error: CUFFT_EXEC_FAILED")),
    "Triton": raising(RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered")),
}


def with_room_for(most: int, model: Any, fail: Callable[[], None] = SHORT_OF_MEMORY["CUDA"]) -> Any:
    """Let `model` run out of memory whenever it gets more than `most` windows at once."""
    forward = model.forward

    def crowded(mixtures: Tensor) -> Any:
        if len(mixtures) > most:
            fail()
        return forward(mixtures)

    model.forward = crowded
    return model


class Doubling(torch.nn.Module):
    """Stands in for a model: one source, which is the mixture doubled."""

    def forward(self, mixtures: Tensor) -> Tensor:
        return 2 * mixtures[:, None]


def test_too_little_memory_for_a_batch_of_a_model_halves_it_and_loses_nothing(tmp_path: Path) -> None:
    bag, mixture = loaded(htdemucs(), tmp_path).module, mixture_of(150_001)
    model = bag.models[0]
    expected = estimated([in_batches_of(2, model)], bag, mixture)
    estimator = in_batches_of(8, with_room_for(2, model))
    with capture_logs() as logs:
        estimates = estimated([estimator], bag, mixture)
    assert torch.equal(estimates, expected)
    assert [(line["log_level"], line["batch"]) for line in logs] == [("warning", 4), ("warning", 2)]
    assert estimator.batch == 2  # what was learned holds for the next song


@pytest.mark.parametrize("who", SHORT_OF_MEMORY)
def test_too_little_memory_halves_the_batch_whoever_says_so(who: str) -> None:
    mixtures = torch.arange(14.0).reshape(7, 2, 1)
    estimator = in_batches_of(8, with_room_for(2, Doubling(), SHORT_OF_MEMORY[who]))
    assert torch.equal(estimator(mixtures, [0]), 2 * mixtures[:, None])
    assert estimator.batch == 1


@pytest.mark.parametrize("who", SHORT_OF_MEMORY)
def test_too_little_memory_for_one_window_is_an_error_that_may_pass(who: str) -> None:
    estimator = in_batches_of(8, with_room_for(0, Doubling(), SHORT_OF_MEMORY[who]))
    with pytest.raises(OutOfMemoryError, match="too little memory") as caught:
        estimator(torch.zeros(7, 2, 1), [0])
    assert (caught.value.code, caught.value.retryable) == ("out_of_memory", True)


def test_a_halved_batch_grows_again_in_time_and_ever_more_rarely_if_that_was_no_good() -> None:
    model = with_room_for(1, Doubling())
    estimator = in_batches_of(4, model)

    def calls_until_a_batch_of(batch: int) -> int:
        calls = 0
        while estimator.batch != batch:
            estimator(torch.zeros(estimator.batch, 2, 16), [0])
            calls += 1
        return calls

    assert calls_until_a_batch_of(1) == 1
    first = calls_until_a_batch_of(2)
    assert first > 1
    assert calls_until_a_batch_of(1) == 1  # there is still no room
    assert calls_until_a_batch_of(2) > first
    del model.forward  # now there is
    calls_until_a_batch_of(4)
    for _ in range(1_000):
        estimator(torch.zeros(4, 2, 16), [0])
    assert estimator.batch == 4  # never more than it was


@pytest.mark.parametrize("who", BROKEN)
def test_a_broken_device_is_no_fault_of_the_model_and_nothing_is_tried_again(who: str) -> None:
    estimator = in_batches_of(8, with_room_for(0, Doubling(), BROKEN[who]))
    with pytest.raises(DeviceError) as caught:
        estimator(torch.zeros(7, 2, 1), [0])
    assert (caught.value.code, caught.value.retryable) == ("device_failed", True)
    assert "\n" not in caught.value.message
    assert estimator.batch == 8


def test_a_model_that_fails_for_reasons_of_its_own_is_not_tried_again() -> None:
    mistake = raising(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))
    with pytest.raises(EngineError) as caught:
        in_batches_of(8, with_room_for(0, Doubling(), mistake))(torch.zeros(7, 2, 1), [0])
    assert (caught.value.code, caught.value.retryable) == ("separation_failed", False)


def test_memory_that_runs_out_while_a_model_is_moved_to_the_device_is_named() -> None:
    model: Any = Doubling()
    model.to = lambda device: SHORT_OF_MEMORY["CUDA"]()
    with pytest.raises(OutOfMemoryError), faults_named():
        TorchEstimator(model, device="cpu", bf16=False)
