"""Measures what REST costs its clients: `make bench-rest`.

How soon it tells of jobs, however many it knows; what those notice who ask while many watch and some send slowly; how
soon watchers know; how well they are told when a song will be done; and how fast songs come in. All is seen from
outside, by HTTP, with REST as a process of its own.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import past, report, rest_eta, rest_streams, rest_table, rest_uploads, rest_views
from benchmarks.machine import processor


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything is measured."""

    jobs: tuple[int, ...]  # that are known
    s3_jobs: tuple[int, ...]
    rounds: int
    seconds: float  # of a round of requests
    streams: int
    running: int
    asked_seconds: float  # for each request beside the streams
    before_s: tuple[float, ...]  # songs from which it is learnt how fast the worker is
    lengths_s: tuple[float, ...]  # songs of which it is told when they will be done
    songs: int  # that are sent at once
    song_bytes: int
    upload_rounds: int


FULL: Final = Scale(
    jobs=(100, 10_000, 100_000),
    s3_jobs=(100, 10_000),
    rounds=3,
    seconds=3,
    streams=200,
    running=20,
    asked_seconds=20,
    before_s=(5, 60, 20, 40),
    lengths_s=tuple(5.0 + number * 37 % 56 for number in range(50)),  # 5 to 60 s, well mixed
    songs=8,
    song_bytes=50_000_000,
    upload_rounds=3,
)
QUICK: Final = Scale(
    jobs=(100, 200),
    s3_jobs=(100,),
    rounds=1,
    seconds=0.5,
    streams=12,
    running=10,
    asked_seconds=0.5,
    before_s=(1, 3),
    lengths_s=(9, 8, 7),
    songs=2,
    song_bytes=400_000,
    upload_rounds=1,
)


def main() -> None:
    """Measure all, print the tables, and add them to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little of everything: no figures to keep")
    parser.add_argument("--output", type=Path, help="folder for JSON and page in place of the project's")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else FULL
    started = time.monotonic()
    parent = past.roomy_folder(sum(scale.jobs))
    rounds, seconds = scale.rounds, scale.seconds
    views = _within(parent, lambda folder: rest_views.on_files(folder, scale.jobs, rounds=rounds, seconds=seconds))
    views += _within(parent, lambda folder: rest_views.on_s3(folder, scale.s3_jobs, rounds=rounds, seconds=seconds))
    streams = _within(
        None,
        lambda folder: rest_streams.measured(
            folder, streams=scale.streams, running=scale.running, seconds=scale.asked_seconds
        ),
    )
    eta = _within(None, lambda folder: rest_eta.measured(folder, scale.before_s, scale.lengths_s))
    sizes = {"songs": scale.songs, "size_bytes": scale.song_bytes, "rounds": scale.upload_rounds}
    uploads = {
        "file": _within(None, lambda folder: rest_uploads.on_files(folder, **sizes)),
        "S3": _within(None, lambda folder: rest_uploads.on_s3(folder, **sizes)),
    }
    record = {
        "jobs": list(scale.jobs),
        "in_memory": parent == past.MEMORY,
        "seconds": seconds,
        "rounds": rounds,
        "views": views,
        "streams": streams,
        "eta": eta,
        "song_bytes": scale.song_bytes,
        "at_once": scale.songs,
        "uploads": uploads,
        "took_minutes": round((time.monotonic() - started) / 60, 1),
    }
    published = report.publish("rest", "make bench-rest", record, arguments.output)
    print(f"{processor(published['machine'])}, {published['machine']['threads']} processors")
    print(f"{rest_table.views(record)}\n\n{rest_table.others(record)}")


def _within(parent: Path | None, measure: Callable[[Path], Any]) -> Any:
    """Measure in a folder of its own, in `parent` or among the temporary files."""
    with tempfile.TemporaryDirectory(prefix="unmix-bench-", dir=parent) as folder:
        return measure(Path(folder))


if __name__ == "__main__":
    main()
