"""Converted models are kept: made once, by one process, whole or not at all, and run only if they are right.

Most tests convert in this process: another takes ten seconds to start.
"""

import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from demucs_models import save_bag, tiny_htdemucs
from engine_support import engine_of, estimated, loaded, mixture_of, reference
from unmix.engine import openvino_backend
from unmix.engine.backends import Engine
from unmix.engine.conversion import converted, converted_apart
from unmix.engine.models import LoadedModel, load_model
from unmix.engine.sdr import sdr_db
from unmix.errors import EngineError

CONVERTING = "converting the model for OpenVINO"
NOT_KEPT = "the converted model cannot be kept"


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return loaded(tiny_htdemucs(), tmp_path, "tiny")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache of the test's own."""
    return tmp_path / "cache"


@pytest.fixture
def filled(model: LoadedModel, cache_dir: Path, cache: Path) -> Path:
    """A cache of the test's own, where `model` is kept."""
    engine_of(model, cache_dir)
    return copied(model, cache_dir, cache)


def copied(model: LoadedModel, cache_dir: Path, cache: Path) -> Path:
    """Copy what is kept of a model; others may be converted into `cache_dir` at this moment."""
    for folder in cache_dir.glob(f"*/{model.weights_sha256}-?"):
        shutil.copytree(folder, cache / folder.relative_to(cache_dir))
    return cache


def start(model: LoadedModel, cache: Path) -> tuple[Tensor, list[str]]:
    """Start an engine, and return what it estimates and what was logged."""
    with capture_logs() as logs:
        estimates = estimated(engine_of(model, cache).estimators, model.module, mixture_of(20_001))
    return estimates, [line["event"] for line in logs]


def networks(cache: Path) -> list[Path]:
    return sorted(cache.rglob("network.xml"))


def network_of(model: LoadedModel, cache: Path) -> Path:
    (network,) = (path for path in networks(cache) if model.weights_sha256 in path.parent.name)
    return network


def contents(cache: Path) -> dict[Path, tuple[int, int]]:
    """Return inode and time of the last change of every file and folder."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.rglob("*")}


def is_right(model: LoadedModel, estimates: Tensor) -> bool:
    return sdr_db(reference(model.module, mixture_of(20_001)).numpy(), estimates.numpy()) > 100


def test_a_second_start_converts_nothing(model: LoadedModel, cache: Path) -> None:
    first, logs = start(model, cache)
    assert logs == [CONVERTING]
    before = contents(cache)
    second, logs = start(model, cache)
    assert logs == []
    assert contents(cache) == before
    assert torch.equal(first, second)
    assert is_right(model, first)


def test_other_weights_are_another_network(model: LoadedModel, tmp_path: Path, filled: Path) -> None:
    other = loaded(tiny_htdemucs(1), tmp_path, "other")
    before = networks(filled)
    estimates, logs = start(other, filled)
    assert logs == [CONVERTING]
    assert len(networks(filled)) == len(before) + 1
    assert is_right(other, estimates)
    estimates, logs = start(model, filled)
    assert logs == []
    assert is_right(model, estimates)


def test_a_cache_that_cannot_be_written_costs_the_conversion_and_no_more(
    model: LoadedModel, tmp_path: Path, filled: Path
) -> None:
    (tmp_path / "file").touch()
    estimates, logs = start(model, tmp_path / "file" / "cache")
    assert logs == [NOT_KEPT, CONVERTING]
    assert torch.equal(estimates, start(model, filled)[0])


@pytest.mark.slow
def test_a_disk_that_is_full_keeps_nothing_and_stops_nobody(
    model: LoadedModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_half(graph: Any, path: Path, **options: Any) -> None:
        path.write_bytes(b"<net")
        raise RuntimeError("basic_ios::clear: iostream error")  # what OpenVINO says on a full disk

    monkeypatch.setattr("openvino.save_model", save_half)
    estimates, logs = start(model, cache)
    assert logs == [CONVERTING, NOT_KEPT]
    assert is_right(model, estimates)
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".lock"]


def test_two_that_start_at_once_convert_once(model: LoadedModel, tmp_path: Path, cache: Path) -> None:
    same = loaded(tiny_htdemucs(), tmp_path, "same")
    with capture_logs() as logs, ThreadPoolExecutor(2) as pool:
        engines = list(pool.map(lambda each: engine_of(each, cache), (model, same)))
    assert [line["event"] for line in logs] == [CONVERTING]
    for engine in engines:
        assert is_right(model, estimated(engine.estimators, model.module, mixture_of(20_001)))


PROGRAM = """
import os, signal, sys
from pathlib import Path
from unmix.engine.models import load_model
from unmix.engine.separator import Separator
import openvino
from unmix.engine import conversion, openvino_backend

openvino_backend.converted_apart = conversion.converted

def save_half_and_die(graph, path, **options):
    path.write_bytes(b"<net")
    os.kill(os.getpid(), signal.SIGKILL)

openvino.save_model = save_half_and_die
folder = Path(sys.argv[1])
Separator(load_model("tiny", model_dir=folder), cache_dir=folder / "cache")
"""


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_leaves_nothing_that_is_taken_for_a_network(
    model: LoadedModel, tmp_path: Path, cache: Path
) -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.DEVNULL)
    assert run.returncode == -signal.SIGKILL
    assert [path.read_bytes() for path in networks(cache)] == [b"<net"]  # there is something to stumble over
    estimates, logs = start(model, cache)
    assert logs == [CONVERTING]
    assert is_right(model, estimates)
    (network,) = networks(cache)
    kept = {path.name for path in network.parent.iterdir()}
    assert kept == {"network.bin", "network.xml", "window.safetensors"}


def test_a_conversion_that_gives_something_else_is_refused_and_not_kept(
    model: LoadedModel, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = loaded(tiny_htdemucs(1), tmp_path, "other").module.models[0]
    monkeypatch.setattr(openvino_backend, "converted_apart", lambda model, inputs: converted(other, inputs))
    with pytest.raises(EngineError, match="UNMIX_BACKEND=torch") as caught:
        start(model, cache)
    assert caught.value.code == "conversion_failed"
    assert networks(cache) == []


@pytest.mark.parametrize("damage", [b"", b"<net"])
@pytest.mark.parametrize("name", ["network.xml", "network.bin", "window.safetensors"])
def test_a_damaged_network_is_an_error_that_names_the_file(
    name: str, damage: bytes, model: LoadedModel, filled: Path
) -> None:
    network = network_of(model, filled)
    network.with_name(name).write_bytes(damage)
    with pytest.raises(EngineError, match="remove it") as caught:
        start(model, filled)
    assert caught.value.code == "conversion_failed"
    assert str(network) in caught.value.message


@pytest.mark.slow
def test_a_damaged_network_that_was_removed_is_made_again(model: LoadedModel, filled: Path) -> None:
    network = network_of(model, filled)
    network.unlink()
    network.with_name("network.bin").write_bytes(b"half")
    for expected in ([CONVERTING], []):
        estimates, logs = start(model, filled)
        assert logs == expected
        assert is_right(model, estimates)


def lose_numbers(network: Path) -> None:
    """Let the second half of a network's tensors of weights be zeros, as blocks are that never reached the disk."""
    tensors = re.findall(r'element_type="f32" shape="[^"]*" offset="(\d+)" size="(\d+)"', network.read_text())
    with network.with_name("network.bin").open("r+b") as numbers:
        for offset, size in tensors[len(tensors) // 2 :]:
            numbers.seek(int(offset))
            numbers.write(bytes(int(size)))


def assert_refused(error: EngineError, *remedies: str) -> None:
    assert (error.code, error.retryable) == ("estimates_differ", True)  # another machine may do better
    assert all(remedy in error.message for remedy in (*remedies, "set UNMIX_BACKEND=torch"))


def test_a_network_that_has_other_numbers_than_it_was_saved_with_is_refused(model: LoadedModel, filled: Path) -> None:
    network = network_of(model, filled)
    lose_numbers(network)
    with pytest.raises(EngineError) as caught:
        start(model, filled)
    assert_refused(caught.value, f"remove {network}")
    network.unlink()
    estimates, logs = start(model, filled)
    assert logs == [CONVERTING]
    assert is_right(model, estimates)


@pytest.mark.slow
def test_a_window_of_another_model_refuses_the_network(model: LoadedModel, tmp_path: Path, filled: Path) -> None:
    other = loaded(tiny_htdemucs(1), tmp_path, "other")
    engine_of(other, filled)
    window, others = (network_of(each, filled).with_name("window.safetensors") for each in (model, other))
    window.write_bytes(others.read_bytes())
    with pytest.raises(EngineError) as caught:
        start(model, filled)
    assert_refused(caught.value)


@pytest.mark.slow
def test_a_network_without_its_window_is_converted_again(model: LoadedModel, filled: Path) -> None:
    network_of(model, filled).with_name("window.safetensors").unlink()
    for expected in ([CONVERTING], []):
        estimates, logs = start(model, filled)
        assert logs == expected
        assert is_right(model, estimates)


@pytest.mark.slow
def test_what_an_earlier_version_has_kept_is_not_read(
    model: LoadedModel, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(filled)
    monkeypatch.setattr(openvino_backend, "revision", lambda: "another")
    assert start(model, filled)[1] == [CONVERTING]
    assert before.items() <= contents(filled).items()


def test_what_runs_is_checked_in_its_own_precision(
    model: LoadedModel, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instructions that compute wrongly are injected: bfloat16 runs a network with lost numbers."""
    wrong = Path(shutil.copytree(network_of(model, filled).parent, tmp_path / "wrong")) / "network.xml"
    lose_numbers(wrong)
    compiled = openvino_backend.OpenVinoEstimator._compiled

    def compiled_wrongly(self: Any, graph: Any, *, bf16: bool) -> Any:
        return compiled(self, wrong if bf16 else graph, bf16=False)

    monkeypatch.setattr(openvino_backend, "has_bf16", lambda: True)
    monkeypatch.setattr(openvino_backend.OpenVinoEstimator, "_compiled", compiled_wrongly)
    with pytest.raises(EngineError, match="in bfloat16") as caught:
        engine_of(model, filled, precision="fast")
    assert_refused(caught.value, "set UNMIX_PRECISION=exact")
    assert engine_of(model, filled, precision="exact").precision == "exact"


@pytest.mark.slow
def test_a_network_that_can_only_be_held_in_memory_is_checked_too(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(openvino_backend, "has_bf16", lambda: True)
    monkeypatch.setattr(openvino_backend, "_LEAST_SNR_BF16", 1_000)
    with pytest.raises(EngineError) as caught:
        engine_of(model, tmp_path / "file" / "cache", precision="fast")
    assert_refused(caught.value)
    assert "remove" not in caught.value.message


@pytest.fixture
def bag(tmp_path: Path) -> LoadedModel:
    """Two models: the first makes all but the vocals, the second the vocals."""
    models = {"instruments": tiny_htdemucs(0), "voice": tiny_htdemucs(1)}
    save_bag(tmp_path, "two", models, weights=[[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    return load_model("two", model_dir=tmp_path)


def asked(engine: Engine, bag: LoadedModel, sources: list[int]) -> Tensor:
    return estimated(engine.estimators, bag.module, mixture_of(20_001), sources=sources)


@pytest.mark.slow
def test_every_model_of_a_bag_is_checked_before_it_runs(bag: LoadedModel, cache_dir: Path, cache: Path) -> None:
    whole = asked(engine_of(bag, cache_dir), bag, [0, 1, 2, 3])
    copied(bag, cache_dir, cache)
    (voice,) = cache.rglob(f"{bag.weights_sha256}-1/network.xml")
    lose_numbers(voice)
    engine = engine_of(bag, cache)
    assert torch.equal(asked(engine, bag, [0]), whole[:1])
    for _ in range(2):  # nor does it run the second time
        with pytest.raises(EngineError) as caught:
            asked(engine, bag, [3])
        assert_refused(caught.value, f"remove {voice}")


def converting_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let this program run in place of the process that converts."""
    monkeypatch.setattr(openvino_backend, "converted_apart", converted_apart)
    run = subprocess.run
    monkeypatch.setattr(
        "unmix.engine.conversion.subprocess.run",
        lambda command, **options: run([sys.executable, "-c", code, command[-1]], **options),
    )


@pytest.mark.parametrize(
    ("code", "expected", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", "conversion_failed", "SIGKILL"),
        ("raise ValueError('no such operation')", "conversion_failed", "no such operation"),
        ("raise MemoryError", "out_of_memory", "memory"),
        ("raise RuntimeError('std::bad_alloc')", "out_of_memory", "bad_alloc"),
    ],
)
def test_a_conversion_that_dies_is_an_error_that_says_why_and_keeps_nothing(
    code: str, expected: str, said: str, model: LoadedModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converting_instead(monkeypatch, code)
    with pytest.raises(EngineError, match=said) as caught:
        start(model, cache)
    assert caught.value.code == expected
    assert networks(cache) == []


def test_a_conversion_in_a_process_of_its_own_is_right_and_leaves_nothing_behind(
    model: LoadedModel, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "converted_apart", converted_apart)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert is_right(model, start(model, cache)[0])
    assert list(temporary.iterdir()) == []
