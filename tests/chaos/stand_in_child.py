"""The stand-in for the separating child: speaks its protocol, and does what the song says instead of separating it.

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

SOURCES = ("other", "vocals")
WEIGHTS_SHA256 = "5d" * 32


def main() -> None:
    card = {"name": sys.argv[1], "weights_sha256": WEIGHTS_SHA256, "sources": SOURCES, "sample_rate": 44_100}
    emit(event="ready", card=card, backend="stand-in", precision="exact")
    for line in iter(sys.stdin.readline, ""):
        emit(event="loaded")
        emit(event="done", **separate(json.loads(line)))


def separate(task: dict[str, Any]) -> dict[str, Any]:
    data = Path(task["song"]).read_bytes()
    orders = orders_in(data)
    segments = orders.get("segments", 2)
    for done in range(1, segments + 1):
        pause(orders.get("segment_seconds", 0.005))
        emit(event="progress", done=done, total=segments + 1)
        if orders.get("poison"):
            os.kill(os.getpid(), signal.SIGKILL)
    while "gate" in orders and not Path(orders["gate"]).exists():
        pause(orders.get("segment_seconds", 0.005))
        emit(event="progress", done=segments, total=segments + 1)
    # The token tells whose attempt these bytes are of; without it mixed results would look right.
    token = Path(task["song"]).with_name("token").read_text()
    out = Path(task["out"])
    out.mkdir()
    paths = {stem: out / f"{stem}.{task['format']}" for stem in task["stems"] or SOURCES}
    for stem, path in paths.items():
        made = {"token": token, "stem": stem, "song": hashlib.sha256(data).hexdigest()}
        path.write_text(json.dumps(made))
    ran = {
        "model": task["model"],
        "weights_sha256": WEIGHTS_SHA256,
        "device": "none",
        "sample_rate": 44_100,
        "duration_seconds": 1.0,
        "processing_seconds": 0.0,
    }
    return {"stems": {stem: str(path) for stem, path in paths.items()}, "ran": ran, "warnings": []}


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


def emit(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
