"""How much memory a worker may take, and what becomes of a separating process that takes more: a real one, which does.

The limits are made up: none of the machine's is changed.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from support import eventually, is_alive
from unmix.errors import EngineError
from unmix.job import SeparationOptions
from unmix.names import hash_song
from unmix.outcome import Ran
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import ModelCard
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix_worker import separation
from unmix_worker.lease import Lease
from unmix_worker.memory import RESERVE_BYTES, MemoryWatch, peak_bytes, room_for_child_bytes, taken_bytes
from unmix_worker.messages import Done, Loaded, Ready, SeparationTask, encode
from unmix_worker.separation import CrashedError, SeparationProcess

MB = 1 << 20
JOB_ID = hash_song(b"a song")
READY = Ready(ModelCard("demo", "ab" * 32, ("vocals",), 44_100), "torch", "exact")
TASK = SeparationTask.of(SeparationOptions(model="demo"), Path("/song"), Path("/out"), 256)

#: A child that takes 10 MB more again and again, over a song or already while it loads.
GREEDY = """
def take():
    kept = []
    while True:
        kept.append(b"x" * (10 << 20))
"""

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc to ask")


def test_without_a_limit_nobody_is_watched() -> None:
    assert room_for_child_bytes(None) is None


@needs_proc
def test_of_the_limit_the_worker_and_the_kernel_get_their_part() -> None:
    room = room_for_child_bytes(4096 * MB)
    assert room is not None
    assert 0 < room < 4096 * MB - RESERVE_BYTES
    assert room_for_child_bytes(MB) == 0


@needs_proc
def test_what_a_process_has_started_counts_as_its_own_and_what_it_maps_does_not(tmp_path: Path) -> None:
    mapped = tmp_path / "mapped"
    mapped.write_bytes(bytes(100 * MB))
    own = f"import mmap; f = open({str(mapped)!r}, 'r+b'); m = mmap.mmap(f.fileno(), 0); n = sum(m[::4096])"
    other = "import sys; kept = b'x' * (100 << 20); print('there', flush=True); sys.stdin.read()"
    code = f"import subprocess, sys; {own}; subprocess.run([sys.executable, '-c', {other!r}])"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = taken_bytes(process.pid)
        assert taken is not None
        assert 100 * MB < taken < 170 * MB
        process.communicate()
    assert taken_bytes(process.pid) is None


@needs_proc
def test_a_process_that_ends_within_its_limit_ends_the_watch() -> None:
    ended: list[bool] = []
    with subprocess.Popen([sys.executable, "-c", "kept = b'x' * (20 << 20)"]) as process:
        watch = MemoryWatch(process.pid, 1000 * MB, lambda: ended.append(True))
        process.wait()
        watch.close()
    assert not ended
    assert not watch.exceeded


@needs_proc
def test_of_a_process_and_those_that_it_started_the_most_that_they_took_is_known(tmp_path: Path) -> None:
    other = "kept = b'x' * (50 << 20); del kept; print('there', flush=True); input()"
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {other!r}])"
    code = f"kept = b'x' * (100 << 20); del kept; {run}"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken, peak = taken_bytes(process.pid), peak_bytes(process.pid)
        assert taken is not None
        assert peak is not None
        assert taken < 100 * MB < 150 * MB < peak < 220 * MB
        process.communicate(b"\n")
    assert peak_bytes(process.pid) is None


MakeProcess = Callable[..., SeparationProcess]


@pytest.fixture
def process_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MakeProcess]:
    """Make a process whose child runs a program, and may take so many MiB."""
    made: list[SeparationProcess] = []

    def make(program: str, room_mb: int) -> SeparationProcess:
        def start(_: list[str], **options: object) -> "subprocess.Popen[str]":
            child: subprocess.Popen[str] = subprocess.Popen([sys.executable, "-c", program], **options)  # type: ignore[call-overload]
            (tmp_path / "pid").write_text(str(child.pid))
            return child

        monkeypatch.setattr(separation, "subprocess", SimpleNamespace(Popen=start, PIPE=subprocess.PIPE))
        monkeypatch.setattr(separation, "room_for_child_bytes", lambda limit: room_mb * MB)
        made.append(SeparationProcess(Settings(model="demo")))
        return made[-1]

    yield make
    for process in made:
        process.close()


@pytest.fixture
def lease(queue: JobQueue) -> Iterator[Lease]:
    queue.submit(JOB_ID, "g")
    claim = queue.claim(str(queue.take(block_seconds=1)), JOB_ID, "worker-1")
    assert claim is not None
    with Lease(queue, claim, 0.1) as lease:
        yield lease


@needs_proc
def test_a_child_that_takes_too_much_over_a_song_is_ended_and_the_next_one_serves(
    process_of: MakeProcess, lease: Lease, tmp_path: Path
) -> None:
    said = encode(READY), encode(Loaded())
    program = (
        f"{GREEDY}\nprint({said[0]!r}, end='', flush=True); input(); print({said[1]!r}, end='', flush=True); take()"
    )
    process = process_of(program, 200)
    process.ensure_ready(Shutdown(60))
    first = int((tmp_path / "pid").read_text())
    with pytest.raises(CrashedError, match="more than 200 MiB") as caught:
        process.separate(TASK, lease, Shutdown(60))
    assert (caught.value.code, caught.value.retryable) == ("memory_exceeded", True)
    assert process.crashes == {"memory_exceeded": 1}
    assert not is_alive(first)
    process.ensure_ready(Shutdown(60))
    assert is_alive(int((tmp_path / "pid").read_text()))


@needs_proc
def test_a_child_that_takes_too_much_while_it_loads_is_ended_with_what_it_has_started(
    process_of: MakeProcess, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    greedy = f"import os; open({str(started)!r}, 'w').write(str(os.getpid()))\n{GREEDY}\ntake()"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {greedy!r}])"
    process = process_of(program, 200)
    with pytest.raises(CrashedError) as caught:
        process.ensure_ready(Shutdown(60))
    assert caught.value.code == "memory_exceeded"
    process.close()
    eventually(lambda: not is_alive(int(started.read_text())), "what it had started is gone too")


@needs_proc
def test_a_worker_announces_what_songs_of_its_own_model_have_taken(process_of: MakeProcess, lease: Lease) -> None:
    done = encode(Done({}, Ran("demo", "ab" * 32, "cpu", 44_100, 1.0, 0.5), warnings=()))
    song = f"input(); kept = b'x' * (100 << 20); del kept; print({encode(Loaded()) + done!r}, end='', flush=True)"
    program = f"print({encode(READY)!r}, end='', flush=True)\nwhile True:\n    {song}"
    process = process_of(program, 1000)
    assert process.ensure_ready(Shutdown(60)).memory_mb is None
    process.separate(TASK, lease, Shutdown(60))
    taken = process.ensure_ready(Shutdown(60)).memory_mb
    assert taken is not None
    assert 100 < taken < 200
    more = replace(TASK, model="htdemucs")
    process.separate(more, lease, Shutdown(60))
    process.separate(TASK, lease, Shutdown(60))
    assert process.ensure_ready(Shutdown(60)).memory_mb == taken


def test_a_model_that_needs_more_than_there_is_ends_the_worker_before_it_takes_a_song(
    process_of: MakeProcess, tmp_path: Path
) -> None:
    ready = Ready(READY.card, READY.backend, READY.precision, needed_mb=1131)
    program = f"import time; print({encode(ready)!r}, end='', flush=True); time.sleep(3600)"
    with pytest.raises(EngineError, match=r"demo needs 1131 MiB.* leaves 1130 MiB") as caught:
        process_of(program, 1130).ensure_ready(Shutdown(60))
    assert (caught.value.code, caught.value.retryable) == ("memory_too_small", False)
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert process_of(program, 1131).ensure_ready(Shutdown(60)) == READY.card
