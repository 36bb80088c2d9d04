"""A worker and its separating child that do not understand each other, as when a package is replaced under a worker.

Neither may wait for the other for ever, nor may the song be blamed.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support import PATIENCE_SECONDS, is_alive
from unmix.errors import EngineError
from unmix.job import SeparationOptions
from unmix.names import hash_song
from unmix.outcome import Ran
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import ModelCard
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix_worker import child_process
from unmix_worker.child_process import CrashedError
from unmix_worker.lease import Lease
from unmix_worker.messages import (
    KNOWN,
    Done,
    Failed,
    Loaded,
    PartsTask,
    Ready,
    SeparationTask,
    decode_event,
    encode,
)
from unmix_worker.parts import PartsHelp
from unmix_worker.separation import SeparationProcess

JOB_ID = hash_song(b"a song")
READY = Ready(ModelCard("demo", "ab" * 32, ("vocals",), 44_100), "torch", "exact")
DONE = Done({"vocals": "/out/vocals.mp3"}, Ran("demo", "ab" * 32, "cpu", 44_100, 1.0, 0.5), warnings=())
UNKNOWN = json.dumps({"kind": "Mood", "mood": "good"}) + "\n"
TASK = SeparationTask.of(SeparationOptions(model="demo"), Path("/song"), Path("/out"), 256)

#: The child as it is, but for the model.
CHILD = """
from types import SimpleNamespace
from unmix_worker import child
model = SimpleNamespace(
    name="demo", weights_sha256="", weights_source="", weights_licence="", sources=(), sample_rate=44_100
)
child.make_separator = lambda *_: SimpleNamespace(
    model=model, device="cpu", backend="torch", precision="exact", needed_mb=0
)
child.main()
"""


@contextmanager
def running_child() -> Iterator["subprocess.Popen[str]"]:
    """Run the child until the test is over, or for as long as a test may wait."""
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        timer = threading.Timer(PATIENCE_SECONDS, child.kill)
        timer.start()
        try:
            yield child
        finally:
            timer.cancel()
            child.kill()


def task_without(field: str) -> str:
    """What a worker would say that does not know `field` yet."""
    values = json.loads(encode(TASK))
    del values[field]
    return json.dumps(values) + "\n"


def test_a_child_says_of_each_task_that_it_does_not_understand_it_and_ends_with_its_worker() -> None:
    a_field_is_missing, another_kind, no_message = task_without("mixture_consistency"), UNKNOWN, "la la la\n"
    with running_child() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert isinstance(decode_event(child.stdout.readline()), Ready)
        for line in 2 * (a_field_is_missing, another_kind, no_message):
            child.stdin.write(line)
            child.stdin.flush()
            answer = decode_event(child.stdout.readline())
            assert isinstance(answer, Failed)
            assert (answer.code, answer.retryable) == ("bad_task", True)
        child.stdin.close()
        assert child.wait() == 0


def test_a_child_ends_when_its_worker_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    with running_child() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        os.write(child.stdin.fileno(), b"\xff\n")
        assert child.wait() == 0


@pytest.fixture
def lease(queue: JobQueue) -> Iterator[Lease]:
    """A claim, renewed often."""
    queue.submit(JOB_ID, "g")
    claim = queue.claim(str(queue.take(block_seconds=1)), JOB_ID, "worker-1")
    assert claim is not None
    with Lease(queue, claim, 0.01) as lease:
        yield lease


@pytest.fixture
def process_whose_child_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., SeparationProcess]]:
    """Make a process whose child says so many lines, and then waits."""
    made: list[SeparationProcess] = []

    def make(*lines: str, **settings: Any) -> SeparationProcess:
        program = f"import os, sys, time\nprint({''.join(lines)!r}, end='', flush=True)\ntime.sleep(3600)"

        def start(_: list[str], **options: Any) -> "subprocess.Popen[str]":
            child = subprocess.Popen([sys.executable, "-c", program], **options)
            (tmp_path / "pid").write_text(str(child.pid))
            return child

        monkeypatch.setattr(child_process, "subprocess", SimpleNamespace(Popen=start, PIPE=subprocess.PIPE))
        made.append(SeparationProcess(Settings(model="demo", **settings)))
        return made[-1]

    yield make
    for process in made:
        process.close()


def assert_child_is_gone(folder: Path) -> None:
    assert not is_alive(int((folder / "pid").read_text()))


def test_a_child_that_says_what_nobody_understands_has_crashed(
    process_whose_child_says: Callable[..., SeparationProcess],
) -> None:
    with pytest.raises(CrashedError, match="nobody understands"):
        process_whose_child_says("la la la\n").ensure_ready(Shutdown(60))


def test_events_that_only_a_later_version_knows_are_passed_over(
    process_whose_child_says: Callable[..., SeparationProcess], lease: Lease
) -> None:
    said = [UNKNOWN, encode(READY), UNKNOWN, encode(Loaded()), UNKNOWN, encode(DONE)]
    separated = process_whose_child_says(*said).separate(TASK, lease, Shutdown(60))
    assert separated.ran == DONE.ran


#: What a child of the first version says: not which fields of a task it knows.
EARLIER_READY = json.dumps({name: value for name, value in json.loads(encode(READY)).items() if name != "knows"}) + "\n"


@pytest.mark.parametrize(
    "chosen",
    [{"overlap": 0.5}, {"shifts": 1}, {"precision": "exact"}, {"song_rate": True}],
    ids=lambda it: str(*it),
)
def test_a_child_of_an_earlier_version_is_asked_for_nothing_that_it_would_ignore(
    process_whose_child_says: Callable[..., SeparationProcess], lease: Lease, chosen: dict[str, Any]
) -> None:
    process = process_whose_child_says(EARLIER_READY, encode(Loaded()), encode(DONE))
    asked = replace(TASK, **chosen)
    with pytest.raises(EngineError, match=f"another version.* {next(iter(chosen))}") as caught:
        process.separate(asked, lease, Shutdown(60))
    assert (caught.value.code, caught.value.retryable) == ("bad_task", True)
    assert not isinstance(caught.value, CrashedError)  # the song is not to blame
    helper = cast(PartsHelp, None)  # which is not asked
    with pytest.raises(EngineError, match="another version"):
        process.help(PartsTask(asked, join=False), helper, Shutdown(60))
    assert process.separate(TASK, lease, Shutdown(60)).ran == DONE.ran  # all else it does as ever


def test_a_child_of_this_version_is_asked_for_all_that_this_version_knows(
    process_whose_child_says: Callable[..., SeparationProcess], lease: Lease
) -> None:
    process = process_whose_child_says(encode(replace(READY, knows=KNOWN)), encode(Loaded()), encode(DONE))
    asked = replace(TASK, overlap=0.5, shifts=1, precision="exact", bits=24, song_rate=True)
    assert process.separate(asked, lease, Shutdown(60)).ran == DONE.ran


def test_a_child_says_what_it_knows_and_refuses_a_precision_that_only_a_later_version_knows() -> None:
    with running_child() as child:
        assert child.stdin is not None
        assert child.stdout is not None
        ready = decode_event(child.stdout.readline())
        assert isinstance(ready, Ready)
        assert {"precision", "overlap", "shifts", "song_rate"} <= set(ready.knows)
        child.stdin.write(encode(replace(TASK, precision="of tomorrow")))
        child.stdin.flush()
        answer = decode_event(child.stdout.readline())
        assert isinstance(answer, Failed)
        assert (answer.code, answer.retryable) == ("bad_task", True)


def test_a_default_model_that_never_gets_loaded_ends_the_waiting(
    process_whose_child_says: Callable[..., SeparationProcess], tmp_path: Path
) -> None:
    with pytest.raises(EngineError) as caught:
        process_whose_child_says(load_seconds=0.1).ensure_ready(Shutdown(60))
    assert (caught.value.code, caught.value.retryable) == ("load_stalled", True)
    assert_child_is_gone(tmp_path)


@pytest.mark.parametrize("meanwhile", ["", UNKNOWN], ids=["silence", "unknown events"])
def test_a_song_whose_model_never_gets_loaded_is_tried_again_and_not_blamed(
    process_whose_child_says: Callable[..., SeparationProcess], lease: Lease, tmp_path: Path, meanwhile: str
) -> None:
    process = process_whose_child_says(encode(READY), meanwhile, load_seconds=60)
    process.ensure_ready(Shutdown(60))
    process._settings.load_seconds = 0.1
    with pytest.raises(EngineError) as caught:
        process.separate(TASK, lease, Shutdown(60))
    assert (caught.value.code, caught.value.retryable) == ("load_stalled", True)
    assert not isinstance(caught.value, CrashedError)
    assert_child_is_gone(tmp_path)
