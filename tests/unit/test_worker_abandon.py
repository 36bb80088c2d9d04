"""A song that nobody wants any more: the child leaves it and keeps its model, or is ended if it does not listen."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from support import eventually, is_alive, make_song
from unmix.errors import EngineError, LeaseLostError
from unmix.job import SeparationOptions
from unmix.names import hash_song
from unmix.queue.job_queue import JobQueue
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix_worker import child_process
from unmix_worker.lease import Lease
from unmix_worker.messages import (
    Abandon,
    Abandoned,
    Event,
    MakeRun,
    NoMoreRuns,
    Order,
    PartsTask,
    Progress,
    RunWanted,
    SeparationTask,
    decode_event,
    encode,
)
from unmix_worker.orders import AbandonedError, Orders
from unmix_worker.parts import PartsHelp
from unmix_worker.separation import SeparationProcess

JOB_ID = hash_song(b"a song")
TASK = SeparationTask.of(SeparationOptions(model="demo"), Path("/song"), Path("/out"), 256)
MakeProcess = Callable[..., SeparationProcess]

#: A child that goes on with its first song for ever, and has done each later one at once. How it takes it to be told
#: to leave a song is put in.
CHILD = """
import sys, time
from unmix.outcome import Ran
from unmix.queue.records import ModelCard
from unmix_worker.messages import *
from unmix_worker.messages import Abandon, Abandoned
from unmix_worker.orders import AbandonedError, Orders

def emit(event):
    sys.stdout.write(encode(event))
    sys.stdout.flush()

def done(stem):
    emit(Done({stem: "/out/" + stem}, Ran("demo", "ab" * 32, "cpu", 44_100, 1.0, 0.5), warnings=()))

orders = Orders.of_parent()
emit(Ready(ModelCard("demo", "ab" * 32, ("vocals",), 44_100), "torch", "exact", knows=KNOWN))
orders.next()
emit(Loaded())
emit(Progress(1, 100))
try:
    while True:
        time.sleep(0.01)
        orders.check()
except AbandonedError:
    HOW
orders.pass_over()
emit(Abandoned())
while True:
    if isinstance(orders.next(), SeparationTask):
        emit(Loaded())
        done("second")
"""


@pytest.fixture
def process_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeProcess]:
    """Make a process whose child leaves its song in such a way."""
    made: list[SeparationProcess] = []

    def make(how: str, **settings: Any) -> SeparationProcess:
        def start(_: list[str], **options: Any) -> "subprocess.Popen[str]":
            return subprocess.Popen([sys.executable, "-c", CHILD.replace("HOW", how)], **options)

        monkeypatch.setattr(child_process, "subprocess", SimpleNamespace(Popen=start, PIPE=subprocess.PIPE))
        made.append(SeparationProcess(Settings(model="demo", **settings)))
        return made[-1]

    yield make
    for process in made:
        process.close()


def leased(queue: JobQueue) -> Lease:
    """Return a claim, renewed often."""
    queue.submit(JOB_ID, "g")
    claim = queue.claim(str(queue.take(block_seconds=1)), JOB_ID, "worker-1")
    assert claim is not None
    return Lease(queue, claim, 0.01)


class CancelledOnceUnderWay:
    """Stands in for the parts of a song: the job goes away with the first sign of progress."""

    progress = None
    is_waiting = False

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def orders(self, event: Event | None) -> list[Order]:
        if type(event).__name__ == "Progress":
            self._queue.forget(JOB_ID)
        return []

    def failed(self, error: EngineError) -> None:
        raise AssertionError("nothing failed") from error


def cancel_in_the_middle(process: SeparationProcess, queue: JobQueue) -> None:
    """Have a song cancelled while it is separated."""
    with leased(queue) as lease, pytest.raises(LeaseLostError):
        process.separate(TASK, lease, Shutdown(60), cast(Any, CancelledOnceUnderWay(queue)))


def pid_of(process: SeparationProcess) -> int:
    process.ensure_ready(Shutdown(60))
    child = process._child
    assert child is not None
    return child.pid


@pytest.mark.parametrize(
    "how",
    ["pass", "done('first')", "emit(Failed('undecodable', 'no song', False))", "emit(Progress(2, 100))"],
    ids=["at once", "it was done just then", "it failed just then", "it goes on a little"],
)
def test_a_child_that_leaves_its_song_is_the_one_that_makes_the_next(
    process_of: MakeProcess, queue: JobQueue, how: str
) -> None:
    process = process_of(how)
    pid = pid_of(process)
    cancel_in_the_middle(process, queue)
    assert pid_of(process) == pid
    with leased(queue) as lease:
        separated = process.separate(TASK, lease, Shutdown(60))
    assert list(separated.stems) == ["second"]  # nothing of the first song is taken for it


@pytest.mark.parametrize(
    "how",
    [
        "time.sleep(3600)",
        "while True: emit(Progress(2, 100))",
        "raise SystemExit",
        "emit(Failed('device_failed', '', True))",
    ],
    ids=["deaf", "it goes on and on", "it dies", "its device fails"],
)
def test_a_child_that_does_not_leave_its_song_is_ended(process_of: MakeProcess, queue: JobQueue, how: str) -> None:
    process = process_of(how, stall_seconds=0.5)
    pid = pid_of(process)
    cancel_in_the_middle(process, queue)
    assert not is_alive(pid)
    assert pid_of(process) != pid


def test_a_worker_that_has_to_stop_does_not_wait_for_the_child(process_of: MakeProcess, queue: JobQueue) -> None:
    process, shutdown = process_of("time.sleep(3600)", stall_seconds=3600), Shutdown(60)
    pid = pid_of(process)
    send = process._send

    def send_and_stop(order: Order) -> None:
        send(order)
        if isinstance(order, Abandon):
            shutdown.request()

    process._send = send_and_stop  # type: ignore[method-assign]
    with leased(queue) as lease, pytest.raises(LeaseLostError):
        process.separate(TASK, lease, shutdown, cast(Any, CancelledOnceUnderWay(queue)))
    assert not is_alive(pid)


def test_a_helper_keeps_its_child_when_its_run_is_of_no_use(process_of: MakeProcess, queue: JobQueue) -> None:
    process = process_of("pass")
    pid = pid_of(process)
    parts = SimpleNamespace(is_idle=False, is_of_no_use=False)

    def orders(event: Event | None) -> list[Order]:
        parts.is_of_no_use = type(event).__name__ == "Progress"
        return []

    parts.orders = orders
    process.help(PartsTask(TASK, join=False), cast(PartsHelp, parts), Shutdown(60))
    assert pid_of(process) == pid
    with leased(queue) as lease:
        assert list(process.separate(TASK, lease, Shutdown(60)).stems) == ["second"]


def test_the_child_hears_of_it_while_it_computes_and_while_it_waits_and_then_forgets_the_song() -> None:
    for heard_before in (True, False):
        orders = Orders()
        orders.check()
        if heard_before:
            orders.add(encode(MakeRun(0, 1)))
        orders.add(encode(Abandon()))
        if heard_before:
            with pytest.raises(AbandonedError):
                orders.check()
        with pytest.raises(AbandonedError):
            orders.next_of_song()
        orders.pass_over()
        orders.check()
        orders.add(encode(NoMoreRuns()))
        assert orders.next_of_song() == NoMoreRuns()


def test_what_comes_after_a_song_that_was_left_is_of_the_next() -> None:
    orders = Orders()
    for order in (MakeRun(0, 1), Abandon(), TASK):
        orders.add(encode(order))
    orders.pass_over()
    assert orders.next() == TASK


@contextmanager
def real_child() -> Iterator[tuple[int, Iterator[Event], Callable[[Order], None]]]:
    """Start the child itself, with the demo model; yields its pid, what it says, and how it is told something."""
    command, environment = [sys.executable, "-m", "unmix_worker.child"], {"UNMIX_MODEL": "demo", "UNMIX_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
    ) as child:
        stdin, stdout = child.stdin, child.stdout
        assert stdin is not None
        assert stdout is not None

        def say(order: Order) -> None:
            stdin.write(encode(order))
            stdin.flush()

        try:
            yield child.pid, (event for line in stdout if (event := decode_event(line))), say
        finally:
            child.kill()


def parts_task(song: Path, out: Path, *, join: bool) -> PartsTask:
    out.mkdir()
    task = SeparationTask.of(SeparationOptions(model="demo", format="flac"), song, out, 256)
    return PartsTask(task, join=join, least_seconds=5)


def decoders_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children() if is_alive(child.pid)]


def test_no_decoder_is_left_of_a_song_that_was_abandoned_wherever_it_was(tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(make_song(60, seed=5))
    with real_child() as (pid, events, say):
        for windows in (1, 2, 5):
            say(parts_task(song, tmp_path / f"stems-{windows}", join=True))
            for event in events:
                if isinstance(event, RunWanted):
                    say(MakeRun(event.wished, event.wished + 2))
                if isinstance(event, Progress) and event.done == windows:
                    break
            eventually(lambda: decoders_of(pid), "the song is being decoded")
            say(Abandon())
            while not isinstance(next(events), Abandoned):
                pass
            eventually(lambda: not decoders_of(pid), "nothing is left of the song")


def test_no_decoder_is_left_of_a_song_that_was_helped_with(tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(make_song(60, seed=5))
    with real_child() as (pid, events, say):
        say(parts_task(song, tmp_path / "stems", join=False))
        for wished in (0, 2):
            while not isinstance(next(events), RunWanted):
                pass
            say(MakeRun(wished, wished + 2) if wished == 0 else NoMoreRuns())
        eventually(lambda: not decoders_of(pid), "nothing is left of the song")
