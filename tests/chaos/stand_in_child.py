"""The stand-in for the separating child: it speaks as that does, and does what a song says instead of separating it.

It runs without site-packages, to start fast. A song may be JSON: {"segments": 3, "segment_seconds": 0.01,
"poison": true, "gate": "path"}. With a gate it goes on making progress until that file exists.
"""

import hashlib
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

from unmix.job import ModelCard, Ran
from unmix_worker.messages import Done, Event, Loaded, PartsTask, Progress, Ready, SeparationTask, decode_order, encode

SOURCES = ("other", "vocals")
WEIGHTS_SHA256 = "5d" * 32


def main(model: str) -> None:
    emit(Ready(ModelCard(model, WEIGHTS_SHA256, SOURCES, 44_100), backend="stand-in", precision="exact"))
    for line in iter(sys.stdin.readline, ""):
        order = decode_order(line)
        if isinstance(order, PartsTask):
            order = order.separation  # one that separates nothing has no parts
        if isinstance(order, SeparationTask):
            emit(Loaded())
            emit(separate(order))


def separate(task: SeparationTask) -> Done:
    data = Path(task.song).read_bytes()
    orders = orders_in(data)
    segments = orders.get("segments", 2)
    for done in range(1, segments + 1):
        pause(orders.get("segment_seconds", 0.005))
        emit(Progress(done, segments + 1))
        if orders.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
    while "gate" in orders and not Path(orders["gate"]).exists():
        pause(orders.get("segment_seconds", 0.005))
        emit(Progress(segments, segments + 1))
    # The token tells whose attempt these bytes are of; without it mixed results would look right.
    token = Path(task.song).with_name("token").read_text()
    out = Path(task.out)
    out.mkdir()
    paths = {stem: out / f"{stem}.{task.format}" for stem in task.stems or SOURCES}
    for stem, path in paths.items():
        made = {"token": token, "stem": stem, "song": hashlib.sha256(data).hexdigest()}
        path.write_text(json.dumps(made))
    ran = Ran(task.model, WEIGHTS_SHA256, "none", 44_100, duration_seconds=1.0, processing_seconds=0.0)
    return Done({stem: str(path) for stem, path in paths.items()}, ran, warnings=())


def orders_in(data: bytes) -> dict[str, Any]:
    """Return what a song says is to be done; one of real audio says nothing."""
    if not data.startswith(b"{"):
        return {}
    orders: dict[str, Any] = json.loads(data)
    return orders


def pause(seconds: float) -> None:
    """Sleep, and end as soon as the parent is gone."""
    if select.select([sys.stdin], [], [], seconds)[0]:
        sys.exit()


def emit(event: Event) -> None:
    sys.stdout.write(encode(event))
    sys.stdout.flush()
