"""How many workers a machine gets, with how many threads, and which device: what local mode tells its processes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import unmix
from unmix import separating
from unmix.local import local, sizing
from unmix.local.local import LocalPlan
from unmix.local.sizing import default_workers, threads_for, workers_for
from unmix.settings import Settings

GIB = 1 << 30


@pytest.mark.parametrize(
    ("processors", "memory_gib", "workers"),
    [
        (1, 16, 1),
        (2, 16, 1),
        (3, 16, 1),
        (4, 16, 2),
        (16, 64, 8),
        (16, 16, 4),  # of memory there is enough for four
        (16, 1, 1),
    ],
)
def test_there_are_as_many_workers_as_processors_and_memory_are_good_for(
    processors: int, memory_gib: int, workers: int
) -> None:
    assert workers_for(processors, memory_gib * GIB) == workers


@pytest.fixture
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen processors, and memory for all."""
    monkeypatch.setattr(sizing, "usable_processors", lambda: 16)
    monkeypatch.setattr(sizing, "usable_memory", lambda: 1024 * GIB)


@pytest.mark.parametrize(("workers", "threads"), [(1, 16), (3, 5), (8, 2), (16, 1), (40, 1), (0, 16)])
def test_workers_share_the_processors(workers: int, threads: int, sixteen: None) -> None:
    assert threads_for(Settings(), workers) == threads


@pytest.mark.parametrize("chosen", [{"threads": 3}, {"device": "cuda"}])
def test_who_chose_the_threads_or_a_gpu_gets_one_worker(chosen: dict[str, Any], sixteen: None) -> None:
    assert default_workers(Settings()) == 8
    assert default_workers(Settings(**chosen)) == 1


def test_threads_that_were_chosen_are_kept(sixteen: None) -> None:
    assert threads_for(Settings(threads=3), 16) == 3


@pytest.mark.parametrize(("options", "workers"), [((), 8), (("--workers", "0"), 8), (("--workers", "3"), 3)])
def test_local_mode_starts_as_many_workers_as_it_is_told_or_chooses(
    options: tuple[str, ...], workers: int, sixteen: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[LocalPlan] = []
    monkeypatch.setattr(local, "serve", lambda settings, plan, say: plans.append(plan))
    assert unmix("local", "--model", "demo", "--port", "0", "--data-dir", tmp_path, *options) == 0
    assert [plan.workers for plan in plans] == [workers]


def test_every_worker_is_told_its_threads_and_the_device(sixteen: None, tmp_path: Path) -> None:
    plan = LocalPlan(data_dir=tmp_path, port=1, workers=4, model="demo")
    stages = local._stages(Settings(device="mps"), plan, None)
    workers = [process for stage in stages for process in stage if process.name.startswith("worker-")]
    told = [(each.environment["UNMIX_THREADS"], each.environment["UNMIX_DEVICE"]) for each in workers]
    assert told == [("4", "mps")] * 4


def test_metrics_are_told_on_ports_one_after_the_other_if_one_is_named(tmp_path: Path) -> None:
    plan = LocalPlan(data_dir=tmp_path, port=1, workers=2, model="demo")
    ports = {
        process.name: process.environment.get("UNMIX_METRICS_PORT")
        for stage in local._stages(Settings(metrics_port=9200), plan, None)
        for process in stage
        if process.name != "rest"  # it has one anyway
    }
    assert ports == {"janitor": "9200", "worker-1": "9201", "worker-2": "9202"}
    silent = [each.environment for stage in local._stages(Settings(), plan, None) for each in stage]
    assert not any("UNMIX_METRICS_PORT" in environment for environment in silent)


@pytest.mark.parametrize("command", [("local", "--port", "0"), ("demo",)])
def test_no_service_starts_on_a_device_that_is_not_there(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = {"local": "--data-dir", "demo": "--output"}[command[0]]
    assert unmix(*command, "--model", "demo", "--device", "warp", folder, tmp_path / "data") == 1
    errors = capsys.readouterr().err
    assert "the device 'warp' is not available" in errors
    assert "(device_unavailable)" in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("chosen", "threads"), [(0, 3), (2, 2)])
def test_an_engine_computes_with_the_threads_that_are_set_or_those_that_it_may_use(
    chosen: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separating, "usable_processors", lambda: 3)
    before = torch.get_num_threads()
    try:
        cache_dir = Path(os.environ["UNMIX_CACHE_DIR"])
        separating.make_separator("demo", Settings(backend="torch", threads=chosen, cache_dir=cache_dir))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
