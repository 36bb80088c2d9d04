"""Backends: every one gives what demucs gives, as precisely as it says, and says what really ran."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from audio_files import encode, music
from demucs_models import SIX, demucs, hdemucs, htdemucs, save_bag
from engine_support import engine_of, estimated, loaded, mixture_of, reference
from unmix.engine import backends, openvino_backend
from unmix.engine.backends import Backend, Precision
from unmix.engine.models import DEMO, LoadedModel, load_model
from unmix.engine.sdr import sdr_db
from unmix.engine.separator import Separator
from unmix.errors import EngineError, OutOfMemoryError
from unmix.job import SeparationOptions
from unmix_worker import messages
from unmix_worker.messages import Done, Failed, SeparationTask, decode_event

needs_bf16 = pytest.mark.skipif(
    not openvino_backend.has_bf16(), reason="this CPU has no bfloat16, so nothing is fast on it"
)

#: Hybrid transformers with and without everything that the published ones differ in.
VARIANTS: dict[str, Callable[[], Any]] = {
    "small": htdemucs,
    "six sources": lambda: htdemucs(sources=SIX),
    "all of htdemucs": lambda: htdemucs(dconv_mode=3, channels=8, dconv_comp=4, bottom_channels=16, t_layers=2),
    "magnitudes": lambda: htdemucs(cac=False, wiener_iters=1, end_iters=1),
}


@pytest.fixture
def small(tmp_path: Path) -> LoadedModel:
    return loaded(htdemucs(), tmp_path)


@pytest.fixture(scope="module")
def demo() -> LoadedModel:
    return load_model(DEMO)


def snr_db(model: LoadedModel, engine: backends.Engine, samples: int = 40_001) -> float:
    """How far the engine's estimates are from demucs' own."""
    mixture = mixture_of(samples)
    estimates = estimated(engine.estimators, model.module, mixture)
    return sdr_db(reference(model.module, mixture).numpy(), estimates.numpy())


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize(
    "variant",
    [
        "small",
        "six sources",
        *(pytest.param(variant, marks=pytest.mark.slow) for variant in ("all of htdemucs", "magnitudes")),
    ],
)
def test_exact_is_what_demucs_gives(variant: str, backend: Backend, tmp_path: Path, cache_dir: Path) -> None:
    model = loaded(VARIANTS[variant](), tmp_path)
    assert snr_db(model, engine_of(model, cache_dir, backend=backend)) > 100


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_exact_is_what_demucs_gives_with_the_demo_model(backend: Backend, demo: LoadedModel, cache_dir: Path) -> None:
    assert snr_db(demo, engine_of(demo, cache_dir, backend=backend), 200_001) > 100


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_a_bag_is_what_demucs_gives(backend: Backend, tmp_path: Path, cache_dir: Path) -> None:
    save_bag(tmp_path, "two", {"a": htdemucs(0), "b": htdemucs(1)}, weights=[[1.0, 0, 0, 0.5], [0, 1.0, 1.0, 0.5]])
    model = load_model("two", model_dir=tmp_path)
    assert snr_db(model, engine_of(model, cache_dir, backend=backend)) > 100


@needs_bf16
@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_fast_is_bfloat16_and_close_to_what_demucs_gives(backend: Backend, demo: LoadedModel, cache_dir: Path) -> None:
    engine = engine_of(demo, cache_dir, backend=backend, precision="fast")
    assert engine.precision == "fast"
    assert 35 < snr_db(demo, engine, 200_001) < 90


@pytest.mark.parametrize("variant", ["small", pytest.param("magnitudes", marks=pytest.mark.slow)])
def test_sources_are_the_same_whichever_else_are_asked(variant: str, tmp_path: Path, cache_dir: Path) -> None:
    model = loaded(VARIANTS[variant](), tmp_path)
    estimators, mixture = engine_of(model, cache_dir).estimators, mixture_of(40_001)
    some = estimated(estimators, model.module, mixture, sources=[3, 0])
    assert torch.equal(some, estimated(estimators, model.module, mixture)[[3, 0]])


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_two_engines_give_the_same_bits(threads: int, precision: Precision, demo: LoadedModel, cache_dir: Path) -> None:
    first, second = (engine_of(demo, cache_dir, precision=precision, threads=threads) for _ in range(2))
    mixture = mixture_of(140_001)
    estimates = estimated(first.estimators, demo.module, mixture)
    for engine in (first, second):
        assert torch.equal(estimated(engine.estimators, demo.module, mixture), estimates)


def test_the_number_of_threads_changes_next_to_nothing_where_precision_is_exact(
    demo: LoadedModel, cache_dir: Path
) -> None:
    mixture = mixture_of(140_001)
    one, two = (
        estimated(engine_of(demo, cache_dir, threads=threads).estimators, demo.module, mixture) for threads in (1, 2)
    )
    assert sdr_db(one.numpy(), two.numpy()) > 100


def test_without_a_wish_openvino_runs_a_hybrid_transformer(small: LoadedModel, cache_dir: Path) -> None:
    separator = Separator(small, cache_dir=cache_dir)
    assert separator.backend == f"openvino {openvino_backend.version()}"
    assert separator.precision == ("fast" if openvino_backend.has_bf16() else "exact")


def test_a_backend_and_a_precision_are_obeyed(small: LoadedModel, cache_dir: Path) -> None:
    separator = Separator(small, backend="torch", precision="exact", cache_dir=cache_dir)
    assert (separator.backend, separator.precision) == (f"torch {torch.__version__}", "exact")
    assert Separator(small, precision="exact", cache_dir=cache_dir).precision == "exact"


def test_fast_is_exact_and_says_so_where_openvino_finds_no_bfloat16(
    small: LoadedModel, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "has_bf16", lambda: False)
    engine = engine_of(small, cache_dir, precision="fast")
    assert engine.precision == "exact"
    assert snr_db(small, engine) > 100


def test_fast_is_exact_and_says_so_where_torch_finds_no_bfloat16(
    small: LoadedModel, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "_torch_has_bf16", lambda device: False)
    engine = engine_of(small, cache_dir, backend="torch", precision="fast")
    assert engine.precision == "exact"
    assert snr_db(small, engine) > 100


def refusal(model: LoadedModel, cache_dir: Path, *, device: str = "cpu") -> str:
    with pytest.raises(EngineError) as caught:
        Separator(model, device=device, backend="openvino", cache_dir=cache_dir)
    assert caught.value.code == "backend_unavailable"
    return caught.value.message


UNSUPPORTED: dict[str, Callable[[], Any]] = {
    "Demucs": demucs,
    "HDemucs": hdemucs,
    "no fixed length": lambda: htdemucs(use_train_segment=False),
    "its decoder normalises": lambda: htdemucs(norm_starts=0),
}


@pytest.mark.parametrize("reason", UNSUPPORTED)
def test_a_model_that_openvino_does_not_run_is_refused_if_it_is_named_and_else_run_by_torch(
    reason: str, tmp_path: Path, cache_dir: Path
) -> None:
    model = loaded(UNSUPPORTED[reason](), tmp_path, "other")
    assert reason in (message := refusal(model, cache_dir))
    assert "other" in message
    assert Separator(model, cache_dir=cache_dir).backend.startswith("torch ")


def test_a_bag_with_one_model_that_openvino_does_not_run_is_run_by_torch(tmp_path: Path, cache_dir: Path) -> None:
    save_bag(tmp_path, "bag", {"a": htdemucs(), "b": hdemucs()})
    model = load_model("bag", model_dir=tmp_path)
    assert "HDemucs" in refusal(model, cache_dir)
    assert Separator(model, cache_dir=cache_dir).backend.startswith("torch ")


def test_without_openvino_torch_runs_all_models(
    small: LoadedModel, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "openvino_backend", None)
    assert "openvino is not installed" in refusal(small, cache_dir)
    assert Separator(small, cache_dir=cache_dir).backend.startswith("torch ")


def test_openvino_is_not_for_devices_that_are_no_cpu(
    small: LoadedModel, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert "not on mps" in refusal(small, cache_dir, device="mps")


def test_the_child_of_a_worker_obeys_the_settings_and_reports_what_ran(tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(30_000)))
    tasks = [
        SeparationTask.of(SeparationOptions(model=DEMO, format="flac", weights_sha256=weights), song, tmp_path, 192)
        for weights in ("0" * 64, None)
    ]
    settings = {"UNMIX_MODEL": DEMO, "UNMIX_BACKEND": "torch", "UNMIX_PRECISION": "exact", "UNMIX_THREADS": "1"}
    command = [sys.executable, "-m", "unmix_worker.child"]
    with subprocess.Popen(
        command, env=os.environ | settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for task in tasks:
            child.stdin.write(messages.encode(task))
        child.stdin.flush()
        ends = (event for event in map(decode_event, child.stdout) if isinstance(event, Failed | Done))
        refused, done = next(ends), next(ends)
        child.stdin.close()
    assert isinstance(refused, Failed)
    assert (refused.code, refused.retryable) == ("weights_changed", True)
    assert isinstance(done, Done)
    assert (done.ran.backend, done.ran.precision) == (f"torch {torch.__version__}", "exact")


@pytest.mark.slow
def test_openvino_reports_nothing_to_anybody() -> None:
    """Its telemetry would start processes that call a host, at the import and at every conversion."""
    program = """
import sys
forbidden = []
sys.addaudithook(lambda event, _: event.startswith(("socket.", "os.fork", "subprocess.")) and forbidden.append(event))
import unmix.engine.backends, openvino, torch
assert sys.modules["openvino_telemetry"] is None
network = torch.nn.Linear(2, 2)
openvino.convert_model(torch.export.export(network, (torch.zeros(1, 2),)))
print(forbidden)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_process_survives_a_signal_after_its_engines_are_gone(small: LoadedModel, tmp_path: Path) -> None:
    """With its last core, OpenVINO 2026.4.1 takes something along that the kernel needs for a signal."""
    program = """
import gc, os, signal, sys
from pathlib import Path
from types import SimpleNamespace
import torch
from unmix.engine.backends import make_engine
from unmix.engine.models import load_model
signal.signal(signal.SIGUSR1, lambda *_: print("alive"))
folder = Path(sys.argv[1])
engines = []
for _ in range(2):
    model = load_model("small", model_dir=folder)
    engines.append(
        make_engine(model, device="cpu", backend="openvino", precision="exact", threads=1, cache_dir=folder / "cache")
    )
    with torch.inference_mode():
        engines[-1].estimators[0](torch.zeros(1, 2, model.segment_samples), range(4))
while engines:
    engines.pop(0)
    gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert (run.returncode, run.stdout.splitlines()[-1:]) == (0, ["alive"])


def test_memory_that_runs_out_in_openvino_is_named_and_no_damage_is_suspected(
    small: LoadedModel, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError(
            "Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257:\nFailed to allocate 7 …"
        )

    engine = engine_of(small, cache_dir)
    estimator: Any = engine.estimators[0]
    estimator._request = SimpleNamespace(infer=fail)
    with pytest.raises(OutOfMemoryError):
        estimated(engine.estimators, small.module, mixture_of(10_001))
    monkeypatch.setattr(openvino_backend.OpenVinoEstimator, "_compiled", fail)
    with pytest.raises(OutOfMemoryError):
        engine_of(small, cache_dir)


def test_memory_that_runs_out_anywhere_in_a_separation_is_named(
    small: LoadedModel, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = tmp_path / "song"
    song.write_bytes(encode("flac", music(30_000)))
    separator = Separator(small, backend="torch", cache_dir=cache_dir)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("unmix.audio.encode.StemWriter.write", fail)
    with pytest.raises(OutOfMemoryError):
        separator.separate_file(song, tmp_path / "stems", format="wav")
    assert list((tmp_path / "stems").iterdir()) == []
