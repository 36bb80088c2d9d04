"""How much memory a worker may take, and what becomes of a separating process that takes more: a real one, which does.

The limits are made up: none of the machine's is changed.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from support import eventually, is_alive
from unmix.errors import DeviceError, EngineError
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.names import hash_song, song_object
from unmix.outcome import Ran
from unmix.queue.job_queue import JobQueue, QueuePolicy
from unmix.queue.records import ModelCard
from unmix.resources import memory_kills_of
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix.store.file import FileStore
from unmix_worker import child_process, separation
from unmix_worker.child_process import CrashedError, MemoryExceededError
from unmix_worker.lease import Lease
from unmix_worker.memory import RESERVE_BYTES, MemoryWatch, peak_bytes, room_for_child_bytes, taken_bytes
from unmix_worker.messages import Done, Failed, Loaded, Ready, SeparationTask, encode
from unmix_worker.scratch import Scratch
from unmix_worker.separation import SeparationProcess
from unmix_worker.worker import Worker

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

        monkeypatch.setattr(child_process, "subprocess", SimpleNamespace(Popen=start, PIPE=subprocess.PIPE))
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
    with pytest.raises(MemoryExceededError, match="more than 200 MiB") as caught:
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
    with pytest.raises(EngineError, match=r"more than 200 MiB .* while it loaded demo: the memory limit") as caught:
        process.ensure_ready(Shutdown(60))
    assert (caught.value.code, caught.value.retryable) == ("memory_too_small", False)
    process.close()
    eventually(lambda: not is_alive(int(started.read_text())), "what it had started is gone too")


KILL_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def of_one_song(then: str) -> str:
    """Return the program of a child that loads its model, takes a song, and `then` does something."""
    said = [f"print({encode(event)!r}, end='', flush=True)" for event in (READY, Loaded())]
    return f"{said[0]}; input(); {said[1]}; {then}"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file in which the kernel counts kills, of a cgroup that is none."""
    for name in ("proc/self", "sys/fs/cgroup"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text("41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    monkeypatch.setattr(child_process, "memory_kills", lambda: memory_kills_of(tmp_path))
    events = tmp_path / "sys/fs/cgroup/memory.events"
    events.write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 3\n")
    return events


@pytest.mark.parametrize(
    ("kills", "kind", "message"),
    [
        (4, MemoryExceededError, "the system killed the separating process for want of memory"),
        (3, CrashedError, r"was killed \(SIGKILL\), as the system does where memory runs out"),
    ],
    ids=["the kernel counted it", "somebody else did it"],
)
def test_a_child_that_the_kernel_kills_for_memory_is_told_from_one_that_somebody_kills(
    process_of: MakeProcess, lease: Lease, counted: Path, kills: int, kind: type[EngineError], message: str
) -> None:
    count = f"open({str(counted)!r}, 'w').write('oom 3\\noom_kill {kills}\\n')"
    process = process_of(of_one_song(f"{count}; {KILL_ITSELF}"), 1000)
    process.ensure_ready(Shutdown(60))
    with pytest.raises(kind, match=message):
        process.separate(TASK, lease, Shutdown(60))
    assert process.ensure_ready(Shutdown(60)) == READY.card


def test_what_fails_as_the_kernel_killed_what_the_child_had_started_is_not_the_songs_fault(
    process_of: MakeProcess, lease: Lease, counted: Path
) -> None:
    failed = encode(Failed("undecodable", "the decoder ended", retryable=False))
    count = f"open({str(counted)!r}, 'w').write('oom_kill 4\\n')"
    process = process_of(of_one_song(f"{count}; print({failed!r}, end='', flush=True); input()"), 1000)
    process.ensure_ready(Shutdown(60))
    with pytest.raises(EngineError, match=r"killed a process for want of memory; .*the decoder ended") as caught:
        process.separate(TASK, lease, Shutdown(60))
    assert (caught.value.code, caught.value.retryable) == ("memory_exceeded", True)
    process.ensure_ready(Shutdown(60))
    with pytest.raises(EngineError) as caught:  # nobody was killed since the child was started
        process.separate(TASK, lease, Shutdown(60))
    assert (caught.value.code, caught.value.message) == ("undecodable", "the decoder ended")


def test_a_model_that_was_loaded_before_may_be_loaded_again_later(
    process_of: MakeProcess, counted: Path, tmp_path: Path
) -> None:
    first, count = tmp_path / "first", f"open({str(counted)!r}, 'w').write('oom_kill 4\\n')"
    program = f"""
from pathlib import Path
if Path({str(first)!r}).exists():
    {count}
    {KILL_ITSELF}
Path({str(first)!r}).touch()
print({encode(READY)!r}, end="", flush=True)
input()
"""
    process = process_of(program, 1000)
    process.ensure_ready(Shutdown(60))
    process.close()
    with pytest.raises(MemoryExceededError):
        process.ensure_ready(Shutdown(60))


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


class Greedy:
    """Stands in for a separating process that is killed for memory over every song, until one of them has ended."""

    parts_kind = ""

    def __init__(self, queue: JobQueue, shutdown: Shutdown) -> None:
        self._queue = queue
        self._shutdown = shutdown
        self.songs = 0

    def ensure_ready(self, shutdown: Shutdown) -> ModelCard:
        self._queue.sweep()
        if self._queue.views.failed(limit=1)[1]:
            self._shutdown.request()
        return READY.card

    def separate(self, *_: object) -> None:
        self.songs += 1
        raise MemoryExceededError("the separating process took more than 100 MiB of memory and was ended")


class Lacking:
    """A worker with too little memory for the songs in its queue."""

    def __init__(self, redis_url: str, store: FileStore, *, songs: int, retry_seconds: float) -> None:
        self.queue = JobQueue(redis_url, policy=QueuePolicy(retry_seconds=retry_seconds, max_attempts=5))
        self.ledger = Ledger(store)
        self.requests = []
        for number in range(songs):
            job_id = hash_song(str(number).encode())
            store.put(song_object(job_id), str(number).encode())
            wanted = JobRequest(job_id, SeparationOptions(model="demo"), utc_now(), duration_seconds=1.0)
            request, _ = self.ledger.accept(wanted)
            self.queue.submit(job_id, request.generation)
            self.requests.append(request)
        self._store = store
        self._shutdown = Shutdown(60)
        self.process = Greedy(self.queue, self._shutdown)

    def run(self, folder: Path) -> None:
        settings = Settings(model="demo", take_seconds=0.1, parts=False)
        process = cast(SeparationProcess, self.process)
        with self.queue, Scratch(folder) as scratch:
            Worker(settings, self.queue, self._store, process, scratch, worker_id="worker-1").run(self._shutdown)


def test_a_song_that_needs_more_memory_than_any_worker_has_fails_for_that_and_ends_no_worker(
    redis_url: str, queue: JobQueue, store: FileStore, tmp_path: Path
) -> None:
    lacking = Lacking(redis_url, store, songs=1, retry_seconds=0)
    lacking.run(tmp_path)
    outcome = lacking.ledger.outcome(lacking.requests[0])
    assert outcome is not None
    assert (outcome.status, outcome.error_code, outcome.attempt) == (JobStatus.FAILED, "memory_exceeded", 5)
    assert "no worker had memory enough for it; last: the separating process took more than 100 MiB" in str(
        outcome.error
    )


def test_a_worker_that_loses_three_songs_in_a_row_for_want_of_memory_ends_and_fails_none_of_them(
    redis_url: str, queue: JobQueue, store: FileStore, tmp_path: Path
) -> None:
    lacking = Lacking(redis_url, store, songs=3, retry_seconds=60)
    with pytest.raises(DeviceError, match=r"3 attempts in a row .* more than 100 MiB of memory") as caught:
        lacking.run(tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("memory_exceeded", True)
    assert lacking.process.songs == 3
    assert [lacking.ledger.outcome(request) for request in lacking.requests] == [None] * 3
    records = [queue.views.record(request.job_id) for request in lacking.requests]
    assert {record.error_code for record in records if record} == {"memory_exceeded"}
