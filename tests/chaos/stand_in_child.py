"""The stand-in for the separating child: it speaks as that does, and does what a song says instead of separating it.

It runs without site-packages, to start fast. A song may be JSON: {"segments": 3, "segment_seconds": 0.01,
"poison": true, "gate": "path"}. With a gate it goes on making progress until that file exists. With {"parts": 6} it is
a song in parts: each takes `segment_seconds`, and half of that more if the one before it was not made just now.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unmix.job import SongLevel
from unmix.outcome import Ran
from unmix.queue.records import ModelCard
from unmix_worker.messages import (
    Abandon,
    Abandoned,
    Done,
    Event,
    Loaded,
    MakeRun,
    NoMoreRuns,
    Order,
    PartMade,
    PartsBegun,
    PartsJoined,
    PartsTask,
    Progress,
    Ready,
    RunWanted,
    SeparationTask,
    UsePart,
    encode,
)
from unmix_worker.orders import AbandonedError, Orders

SOURCES = ("other", "vocals")
WEIGHTS_SHA256 = "5d" * 32
PARTS_KIND = "exact-standin"
PART_SAMPLES = 100

#: What a part is made of: it shows which song and submission it is of.
Content = dict[str, Any]


def main(model: str) -> None:
    orders = Orders.of_parent()
    card = ModelCard(model, WEIGHTS_SHA256, SOURCES, 44_100)
    emit(Ready(card, backend="stand-in", precision="exact", parts_kind=PARTS_KIND))
    while True:
        order = orders.next()
        if isinstance(order, Abandon):
            emit(Abandoned())
        if not isinstance(order, SeparationTask | PartsTask):
            continue  # of a song that is over
        try:
            work_on(order, orders)
        except AbandonedError:
            orders.pass_over()
            emit(Abandoned())


def work_on(order: SeparationTask | PartsTask, orders: Orders) -> None:
    emit(Loaded())
    task = order.separation if isinstance(order, PartsTask) else order
    says = orders_in(Path(task.song).read_bytes())
    if not isinstance(order, PartsTask) or "parts" not in says:
        emit(separate(task, orders))
    elif order.join:
        emit(join(task, Parts(task, says, orders), orders.next_of_song))
    else:
        help_with(Parts(task, says, orders), orders.next_of_song)


def separate(task: SeparationTask, orders: Orders) -> Done:
    says = orders_in(Path(task.song).read_bytes())
    segments = says.get("segments", 2)
    for done in range(1, segments + 1):
        time.sleep(says.get("segment_seconds", 0.005))
        orders.check()
        emit(Progress(done, segments + 1))
        if says.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
    while "gate" in says and not Path(says["gate"]).exists():
        time.sleep(says.get("segment_seconds", 0.005))
        orders.check()
        emit(Progress(segments, segments + 1))
    return _done(task, {})


class Parts:
    """Makes the parts of one song."""

    def __init__(self, task: SeparationTask, says: dict[str, Any], orders: Orders) -> None:
        self._orders = orders
        self.count: int = says["parts"]
        self.stems = task.stems or SOURCES
        self._seconds: float = says.get("segment_seconds", 0.005)
        self._song = _song_hash(task)
        self._generation = _beside_song(task, "generation")
        self._folder = Path(task.out) / "parts"
        self._folder.mkdir(parents=True)
        self._next = -1
        level = SongLevel(self.count * PART_SAMPLES, 0.0, 1.0, "stand-in")
        emit(PartsBegun(self.count, PARTS_KIND, level, PART_SAMPLES, self.stems))
        emit(RunWanted(0))

    def make(self, run: MakeRun, joined: dict[int, Content]) -> None:
        """Make a run of parts; what each is made of goes into `joined`."""
        if run.first not in (0, self._next):
            time.sleep(self._seconds / 2)
        for index in range(run.first, run.stop):
            time.sleep(self._seconds)
            self._orders.check()
            joined[index] = {"song": self._song, "generation": self._generation, "part": index}
            files = {stem: self._folder / f"{index}.{stem}" for stem in self.stems}
            for stem, path in files.items():
                path.write_text(json.dumps({**joined[index], "stem": stem}))
            emit(Progress(1, 1 + self.count - len(joined)))
            paths = {stem: str(path) for stem, path in files.items()}
            emit(PartMade(index, index * PART_SAMPLES, PART_SAMPLES, paths, dict.fromkeys(files, 0), {}))
        self._next = run.stop
        emit(RunWanted(run.stop))


def join(task: SeparationTask, parts: Parts, receive: Callable[[], Order]) -> Done:
    joined: dict[int, Content] = {}
    while len(joined) < parts.count:
        match receive():
            case MakeRun() as run:
                parts.make(run, joined)
            case UsePart(index, files):
                found = [json.loads(Path(path).read_text()) for path in files.values()]
                # Each has the stem that it is said to be; else what is noted shows it.
                stems = {content.pop("stem") for content in found}
                joined[index] = found[0] if stems == set(files) else {"stems": sorted(stems)}
                for path in files.values():
                    Path(path).unlink()
        emit(PartsJoined(next(index for index in range(parts.count + 1) if index not in joined)))
    return _done(task, {"parts": [joined[index] for index in range(parts.count)]})


def help_with(parts: Parts, receive: Callable[[], Order]) -> None:
    while not isinstance(order := receive(), NoMoreRuns):
        if isinstance(order, MakeRun):
            parts.make(order, {})


def _done(task: SeparationTask, made_of: dict[str, Any]) -> Done:
    """Write the stems."""
    # The token tells whose attempt these bytes are of; without it mixed results would look right.
    token = _beside_song(task, "token")
    out = Path(task.out)
    out.mkdir(exist_ok=True)
    paths = {stem: out / f"{stem}.{task.format}" for stem in task.stems or SOURCES}
    for stem, path in paths.items():
        made = {"token": token, "stem": stem, "song": _song_hash(task), **made_of}
        path.write_text(json.dumps(made))
    ran = Ran(task.model, WEIGHTS_SHA256, "none", 44_100, duration_seconds=1.0, processing_seconds=0.0)
    return Done({stem: str(path) for stem, path in paths.items()}, ran, warnings=())


def _beside_song(task: SeparationTask, name: str) -> str:
    """Read what the worker's side of the stand-in has left beside the song."""
    return Path(task.song).with_name(name).read_text()


def _song_hash(task: SeparationTask) -> str:
    return hashlib.sha256(Path(task.song).read_bytes()).hexdigest()


def orders_in(data: bytes) -> dict[str, Any]:
    """Return what a song says is to be done; one of real audio says nothing."""
    if not data.startswith(b"{"):
        return {}
    orders: dict[str, Any] = json.loads(data)
    return orders


def emit(event: Event) -> None:
    sys.stdout.write(encode(event))
    sys.stdout.flush()
