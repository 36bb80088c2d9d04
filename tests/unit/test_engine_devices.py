"""A device that is not there is refused, and the message says what is missing. torch's own queries are patched."""

import platform
import sys

import pytest
import torch

from unmix.engine.devices import check_device
from unmix.errors import EngineError
from unmix.local import devices as local_devices


def refusal(name: str) -> str:
    with pytest.raises(EngineError) as caught:
        check_device(name)
    assert caught.value.code == "device_unavailable"
    assert not caught.value.retryable
    assert caught.value.message.startswith(f"the device {name!r} is not available: ")
    return caught.value.message


@pytest.fixture
def a_cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch with CUDA, on a machine without a GPU."""
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def a_mac_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch with MPS, on a machine that has nothing for it."""
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_the_cpu_is_always_there() -> None:
    check_device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_torch_without_cuda_says_so_and_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = refusal(name)
    assert f"this torch has no CUDA: {torch.__version__} " in message
    assert "`make setup CUDA=cu130`" in message


@pytest.mark.parametrize(
    ("torch_says", "we_say"),
    [
        (
            RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU …"),
            "Found no NVIDIA driver on your system;",
        ),
        (
            RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update …"),
            "The NVIDIA driver on your system is too old (found version 11040);",
        ),
        (RuntimeError("No CUDA GPUs are available"), "No CUDA GPUs are available;"),
    ],
)
def test_a_torch_with_cuda_and_no_gpu_says_what_is_missing(
    torch_says: Exception, we_say: str, a_cuda_build: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise torch_says

    monkeypatch.setattr(torch.cuda, "init", init)
    message = refusal("cuda")
    assert we_say in message
    assert "nvidia-smi" in message


@pytest.mark.parametrize(
    ("name", "there", "said"), [("cuda:1", 1, "one GPU, cuda:0"), ("cuda:4", 4, "of 4 GPUs the last is cuda:3")]
)
def test_a_gpu_beyond_the_last_is_refused_with_their_number(
    name: str, there: int, said: str, a_cuda_build: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    assert said in refusal(name)
    for index in range(there):
        check_device(f"cuda:{index}")
    check_device("cuda")


def test_a_torch_without_mps_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert f"this torch has no MPS: {torch.__version__} " in refusal("mps")


@pytest.mark.parametrize(
    ("is_new", "said"), [(False, "torch needs macOS 14 for MPS, and this is 13.6"), (True, "finds no GPU for MPS")]
)
def test_a_mac_without_mps_says_whether_its_system_is_too_old(
    is_new: bool, said: str, a_mac_build: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: is_new)
    monkeypatch.setattr(platform, "mac_ver", lambda: ("13.6", ("", "", ""), "arm64"))
    assert said in refusal("mps")


def test_mps_that_is_available_is_accepted(a_mac_build: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    check_device("mps")


@pytest.mark.parametrize("name", ["warp", "cuda:-1", "cuda:x", "", "meta", "xpu"])
def test_other_names_are_refused_with_those_that_there_are(name: str) -> None:
    assert "there may be cpu, cuda (or cuda:1, the second GPU) and mps" in refusal(name)


def test_the_service_is_refused_the_device_in_the_words_of_the_engine() -> None:
    with pytest.raises(EngineError) as caught:
        local_devices.check_device("warp:3")
    assert caught.value.message == refusal("warp:3")
    assert caught.value.code == "device_unavailable"


def test_the_service_asks_nobody_about_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    local_devices.check_device("cpu")
