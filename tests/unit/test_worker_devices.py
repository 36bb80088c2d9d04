"""A device that fails: the separating process ends, the song is tried again, and a worker that meets this often ends.

The child is the real one but for its model, which fails as torch does over a broken GPU.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE_SECONDS
from unmix import names
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore
from unmix_worker.messages import Event, Failed, Ready, SeparationTask, decode_event, encode

#: What stands in for separators: it says of each whether it is alive when the next one is made.
CHILD = """
import gc, sys, weakref
from pathlib import Path
from types import SimpleNamespace
import torch
from unmix.engine.faults import faults_named
from unmix_worker import child

made = []

class Separator:
    device, backend, needed_mb = "cpu", "torch", 0

    def __init__(self, name, precision):
        print("loaded", name, precision, file=sys.stderr, flush=True)
        self.precision = precision if Path("fast").exists() else "exact"  # whether the machine has it
        print("alive:", sum(other() is not None for other in made), file=sys.stderr, flush=True)
        made.append(weakref.ref(self))
        self.itself = self  # only a collection frees it
        self.model = SimpleNamespace(
            name=name, weights_sha256="", weights_source="", weights_licence="", sources=(), sample_rate=44_100
        )

    @faults_named()
    def separate_file(self, *_, **__):
        {fault}

@faults_named()
def make(name, settings):
    if name == "missing":
        raise child.EngineError("no such weights", code="model_unavailable")
    if name == "broken":
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")
    return Separator(name, settings.precision)

gc.disable()
child.make_separator = make
child.main()
"""
STICKY = 'raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")'
SHORT = 'raise RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR")'


def task(model: str, **options: Any) -> str:
    return encode(SeparationTask.of(SeparationOptions(model=model, **options), Path("/song"), Path("/out"), 256))


@contextmanager
def running_child(tmp_path: Path, fault: str, model: str = "first") -> Iterator["subprocess.Popen[str]"]:
    """Run the child until the test is over, or for as long as a test may wait."""
    command = [sys.executable, "-c", CHILD.replace("{fault}", fault)]
    with (
        (tmp_path / "stderr").open("w") as stderr,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("UNMIX_MODEL", model)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
        with subprocess.Popen(command, text=True, cwd=tmp_path, **pipes) as child:  # type: ignore[call-overload]
            timer = threading.Timer(PATIENCE_SECONDS, child.kill)
            timer.start()
            try:
                yield child
            finally:
                timer.cancel()
                child.kill()


def next_end(child: "subprocess.Popen[str]", line: str | None = None) -> Event:
    """Ask for a separation, and return how it ended; or how the loading did."""
    assert child.stdin is not None
    assert child.stdout is not None
    if line:
        child.stdin.write(line)
        child.stdin.flush()
    return next(event for event in map(decode_event, child.stdout) if isinstance(event, Failed | Ready))


def test_a_child_whose_device_has_failed_says_so_and_ends(tmp_path: Path) -> None:
    with running_child(tmp_path, STICKY) as child:
        assert isinstance(next_end(child), Ready)
        failed = next_end(child, task("first"))
        assert isinstance(failed, Failed)
        assert (failed.code, failed.retryable) == ("device_failed", True)
        assert "illegal memory access" in failed.message
        assert child.wait() == 1


def test_a_child_whose_device_fails_as_the_model_is_loaded_says_so_and_ends(tmp_path: Path) -> None:
    with running_child(tmp_path, STICKY, model="broken") as child:
        failed = next_end(child)
        assert isinstance(failed, Failed)
        assert failed.code == "device_failed"
        assert child.wait() == 1


@pytest.mark.slow
def test_a_child_that_lacked_memory_serves_on(tmp_path: Path) -> None:
    with running_child(tmp_path, SHORT) as child:
        next_end(child)
        for _ in range(2):
            failed = next_end(child, task("first"))
            assert isinstance(failed, Failed)
            assert (failed.code, failed.retryable) == ("out_of_memory", True)


@pytest.mark.slow
def test_a_model_goes_before_the_next_one_comes_and_comes_again_if_that_one_cannot_be_had(tmp_path: Path) -> None:
    with running_child(tmp_path, SHORT) as child:
        next_end(child)
        codes = []
        for model in ("second", "missing", "first", "first"):
            failed = next_end(child, task(model))
            assert isinstance(failed, Failed)
            codes.append(failed.code)
        assert codes == ["out_of_memory", "model_unavailable", "out_of_memory", "out_of_memory"]
    lines = (tmp_path / "stderr").read_text().splitlines()
    assert [line for line in lines if "alive" in line] == ["alive: 0"] * 3


def test_another_precision_is_loaded_when_it_is_asked_for_and_not_if_it_is_what_runs_anyway(tmp_path: Path) -> None:
    with running_child(tmp_path, SHORT) as child:  # it was told nothing, so `fast`, and runs `exact`
        next_end(child)
        for precision in ("exact", "fast", None):
            next_end(child, task("first", precision=precision))
        (tmp_path / "fast").touch()
        for precision in ("fast", None, "exact", "exact", None):
            next_end(child, task("second", precision=precision))
    loaded = [line for line in (tmp_path / "stderr").read_text().splitlines() if "loaded" in line]
    assert loaded == ["loaded first fast", "loaded second fast", "loaded second exact", "loaded second fast"]


#: A worker whose separations all fail as if its device were broken, but for the n-th ones.
WORKER = """
import sys
from pathlib import Path
from unmix.errors import DeviceError
from unmix.outcome import Ran
from unmix.queue.records import ModelCard
from unmix_worker import __main__ as worker
from unmix_worker.separation import Separated

class Process:
    asked = 0

    def __init__(self, settings):
        pass

    parts_kind, state = "exact-1", "ready"

    def ensure_ready(self, shutdown):
        return ModelCard("demo", "ab" * 32, ("vocals",), 44_100)

    def separate(self, task, lease, shutdown, parts):
        Process.asked += 1
        if Process.asked not in {good}:
            raise DeviceError("the device failed: CUDA error: unspecified launch failure")
        Path(task.out).mkdir()
        (Path(task.out) / "vocals.mp3").write_bytes(b"stem")
        ran = Ran("demo", "ab" * 32, "cuda", 44_100, 1.0, 1.0)
        return Separated({"vocals": Path(task.out) / "vocals.mp3"}, ran, ())

    def close(self):
        pass

worker.SeparationProcess = Process
sys.exit(worker.main())
"""


@pytest.mark.parametrize(("good", "done"), [("()", 0), ("(3,)", 1)], ids=["never", "a good one in between"])
def test_a_worker_whose_device_fails_over_three_songs_in_a_row_ends_and_no_song_is_lost_or_called_poison(
    good: str, done: int, redis_url: str, queue: JobQueue, store: FileStore, ledger: Ledger, tmp_path: Path
) -> None:
    requests = []
    for number in range(7):
        song = str(number).encode()
        job_id = names.hash_song(song)
        store.put(names.song_object(job_id), song)
        request, _ = ledger.accept(JobRequest(job_id, SeparationOptions(model="demo"), utc_now(), duration_seconds=1.0))
        queue.submit(job_id, request.generation)
        requests.append(request)
    heartbeat = tmp_path / "heartbeat"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMIX_REDIS_URL", redis_url)
        patch.setenv("UNMIX_STORE_URL", f"file://{store.root}")
        patch.setenv("UNMIX_WORKER_HEARTBEAT", str(heartbeat))
        patch.setenv("UNMIX_SCRATCH_DIR", str(tmp_path))
        command = [sys.executable, "-c", WORKER.replace("{good}", good)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert run.returncode == 1, run.stderr
    assert not heartbeat.exists()
    said = run.stdout + run.stderr
    assert "worker stops" in said
    assert "3 attempts in a row failed on this worker" in said
    last = queue.attendance.last_to_leave()
    assert last is not None
    assert (last.code, queue.attendance.present()) == ("device_failed", [])
    assert "3 attempts in a row failed on this worker" in str(last.error)
    outcomes = [ledger.outcome(request) for request in requests]
    assert [outcome.status for outcome in outcomes if outcome] == [JobStatus.DONE] * done
    tried = [record for request in requests if (record := queue.views.record(request.job_id)) and record.error_code]
    assert {record.error_code for record in tried} == {"device_failed"}
    assert {record.status for record in tried} == {JobStatus.QUEUED}
    assert len(tried) == (3 if not done else 5)


def test_a_heartbeat_that_an_earlier_worker_left_is_no_sign_of_life(tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    heartbeat.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMIX_REDIS_URL", "redis://localhost:1/0")
        patch.setenv("UNMIX_STORE_URL", "nonsense://")
        patch.setenv("UNMIX_WORKER_HEARTBEAT", str(heartbeat))
        subprocess.run([sys.executable, "-m", "unmix_worker"], capture_output=True, timeout=PATIENCE_SECONDS)
    assert not heartbeat.exists()
