"""A separating child that stands still is ended, and one that gets on is not, whatever it is at."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from unmix.job import SeparationOptions
from unmix.outcome import Ran
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix_worker import pace
from unmix_worker.child_process import CrashedError
from unmix_worker.lease import Lease
from unmix_worker.messages import KNOWN, Done, Event, Loaded, PartsJoined, Progress, SeparationTask
from unmix_worker.separation import Separated, SeparationProcess

TASK = SeparationTask.of(SeparationOptions(model="demo"), Path("/song"), Path("/out"), 256)
DONE = Done({"vocals": "/out/vocals.mp3"}, Ran("demo", "ab" * 32, "cpu", 44_100, 1.0, 0.5), warnings=())


def separated(monkeypatch: pytest.MonkeyPatch, *events: Event | None) -> Separated:
    """Let a child say this of its song, by a clock that goes on a second whenever somebody looks at it."""
    process = SeparationProcess(Settings(model="demo", stall_seconds=60))
    process._known = KNOWN
    said = iter(events)
    for name, does in {
        "ensure_ready": lambda _: None,
        "_send": lambda _: None,
        "_next_event": lambda: next(said),
        "_note_memory": lambda: None,
    }.items():
        monkeypatch.setattr(process, name, does)
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=count().__next__))
    lease = SimpleNamespace(progress=0.0, check=lambda: None)
    return process.separate(TASK, cast(Lease, lease), Shutdown(60))


def test_a_child_that_says_nothing_for_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CrashedError, match="too long"):
        separated(monkeypatch, Loaded(), Progress(1, 2), *[None] * 100, DONE)


def test_a_child_that_encodes_parts_when_all_windows_are_done_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    joined = [PartsJoined(number) for number in range(1, 101)]
    assert separated(monkeypatch, Loaded(), Progress(2, 2), *joined, DONE).ran == DONE.ran
