"""Measures what strangers can do to a service that they reach.

    make bench-exposed, or PYTHONPATH=tests python -m benchmarks.exposed

What others notice while it is besieged, straight and behind the gate, and what REST needs meanwhile; whether anything
is lost on a disk that is full; who waits for whom; and what the gate costs. All is seen from outside, on this machine
alone: the hostile clients have addresses of loopback, and are bounded in number, bytes and seconds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import (
    exposed_bad,
    exposed_gate,
    exposed_order,
    exposed_room,
    exposed_siege,
    exposed_table,
    report,
    tenants,
)
from benchmarks.exposed_attack import Crowd
from benchmarks.machine import processor


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything is measured."""

    crowd: Crowd
    siege_seconds: float
    later_seconds: float  # after which REST's memory is looked at again
    owed: int  # songs that a small disk has to have room for
    waiting: int  # songs of the client that has many
    songs: int  # that are sent at once, with the gate and without
    song_bytes: int
    asked_seconds: float
    rounds: int
    ids: int  # of another tenant that are asked for


FULL: Final = Scale(
    crowd=Crowd(heads=250, bodies=250, deaf=100, costly=100),
    siege_seconds=90,
    later_seconds=60,
    owed=100,
    waiting=200,
    songs=8,
    song_bytes=50_000_000,
    asked_seconds=10,
    rounds=5,
    ids=1000,
)
QUICK: Final = Scale(
    crowd=Crowd(heads=10, bodies=10, deaf=5, costly=5),
    siege_seconds=8,
    later_seconds=1,
    owed=10,
    waiting=10,
    songs=2,
    song_bytes=400_000,
    asked_seconds=0.5,
    rounds=1,
    ids=20,
)


def main() -> None:
    """Measure all, print the table, and add it to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little of everything: no figures to keep")
    parser.add_argument("--output", type=Path, help="folder for JSON and page in place of the project's")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    began = time.monotonic()
    siege = {"seconds": scale.siege_seconds, "rest_seconds": scale.later_seconds}
    record: dict[str, Any] = {
        "bad": _within(exposed_bad.measured),
        "siege": {
            "straight": _within(lambda folder: exposed_siege.straight(folder, scale.crowd, **siege)),
            "gate": _within(lambda folder: exposed_siege.behind_gate(folder, scale.crowd, **siege)),
        },
        "room": exposed_room.measured(scale.owed),
        "order": _within(lambda folder: exposed_order.measured(folder, scale.waiting)),
        "tenants": _within(
            lambda folder: {name: asdict(told) for name, told in tenants.measure(folder, times=scale.ids).items()}
        ),
        "gate": _within(
            lambda folder: exposed_gate.measured(
                folder,
                songs=scale.songs,
                size_bytes=scale.song_bytes,
                seconds=scale.asked_seconds,
                rounds=scale.rounds,
            )
        ),
    }
    record["took_minutes"] = round((time.monotonic() - began) / 60, 1)
    published = report.publish("exposed", "make bench-exposed", record, arguments.output)
    print(f"{processor(published['machine'])}, {published['machine']['threads']} processors")
    print(exposed_table.figures(record))


def _within(measure: Callable[[Path], Any]) -> Any:
    """Measure in a folder of its own, among the temporary files."""
    with tempfile.TemporaryDirectory(prefix="unmix-bench-") as folder:
        return measure(Path(folder))


if __name__ == "__main__":
    main()
