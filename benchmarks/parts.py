"""Measures what parts bring and cost: many workers on one song, an attempt that goes on, stems that are heard early.

    make bench-parts, or PYTHONPATH=tests python -m benchmarks.parts

What depends on how workers share a song is measured with the stand-in engine of the fault injection, which sleeps for
as long as a part takes; so 16 workers need no 16 processors. What depends on the engine is measured with real workers.
"""

import argparse
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
import requests

from benchmarks import report, tables
from benchmarks.machine import processor
from benchmarks.measure import watch
from benchmarks.models import DEMO, FULL, BenchModel, prepare
from benchmarks.processes import Service as RealService
from benchmarks.processes import wait_until
from benchmarks.scratch import CONVERTED
from benchmarks.songs import looped_song, second_of_noise
from benchmarks.workers import separate
from chaos.clients import Order, SongMaker
from chaos.history import History
from chaos.points import PART_POINTS, Plan
from chaos.service import SCALED, Service
from chaos.zygote import Zygote
from support import RedisServer, folder_in_memory
from unmix import names
from unmix.store.file import FileStore

#: Of ten minutes of song with `htdemucs`.
PARTS: Final = 52
#: A part of the stand-in takes about as long as `htdemucs` takes on a fast processor.
PART_SECONDS: Final = 0.6
WORKERS: Final = (1, 2, 4, 8, 16)
KILLS: Final = 40
QUEUE: Final = 100
SONG_SECONDS: Final = 240.0
EXCERPT_SECONDS: Final = 60.0


def main() -> None:
    """Measure all, print the table, and add it to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little of everything: no figures to keep")
    parser.add_argument("--output", type=Path, help="folder for JSON and page in place of the project's")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    parts, songs, song_s, excerpt_s = (6, 8, 40.0, 40.0) if quick else (PARTS, QUEUE, SONG_SECONDS, EXCERPT_SECONDS)
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="unmix-bench-") as name,
        tempfile.TemporaryDirectory(prefix="unmix-bench-", dir=folder_in_memory()) as in_memory,
    ):
        folder = Path(name)
        with Zygote(folder) as zygote:
            lab = Lab(Path(in_memory), zygote)
            shared = {n: latency(lab, n, parts=parts) for n in (WORKERS[:2] if quick else WORKERS)}
            print(f"latency by workers: {shared}", flush=True)
            again = made_again(lab, kills=2 if quick else KILLS)
            print(f"parts made again after a kill: {again}", flush=True)
            queue_s = {kind: queued(lab, kind, songs=songs) for kind in ("whole", "parts")}
            print(f"a queue of songs: {queue_s}", flush=True)
        (model,) = prepare(folder / "models", [DEMO if quick else FULL])
        song = looped_song(song_s)
        excerpt = looped_song(excerpt_s)
        alone = rounds(folder / "alone", model, excerpt.read_bytes(), count=1 if quick else 6)
        print(f"one worker, as a whole and in parts: {alone}", flush=True)
        two = [on_one_song(folder / f"real-{n}", model, song.read_bytes(), workers=n) for n in (1, 2)]
        print(f"one and two workers: {two}", flush=True)
        bound = [on_one_song(folder / f"bound-{n}", model, song.read_bytes(), workers=n, bound=True) for n in (1, 2)]
        print(f"one and two workers of one processor each: {bound}", flush=True)
        each = [on_songs_of_their_own(folder / f"own-{n}", model, song.read_bytes(), workers=n) for n in (1, 2)]
        print(f"one and two workers on a song each: {each}", flush=True)
        (demo,) = prepare(folder / "demo", [DEMO])
        traffic = stored(folder / "traffic", demo, song.read_bytes())
    record = {
        "model": model.description,
        "parts": parts,
        "part_s": PART_SECONDS,
        "song_s": song_s,
        "excerpt_s": excerpt_s,
        "latency_s": {str(workers): seconds for workers, seconds in shared.items()},
        "made_again": again,
        "queue": songs,
        "queue_s": queue_s,
        "alone": alone,
        "on_one_song": two,
        "on_one_song_bound": bound,
        "on_songs_of_their_own_s": each,
        "stored": traffic,
        "took_minutes": round((time.monotonic() - started) / 60, 1),
    }
    published = report.publish("parts", "make bench-parts", record, arguments.output)
    print(f"{processor(published['machine'])}, {published['machine']['threads']} processors\n{tables.parts(record)}")


class Lab:
    """Makes services whose engine is the stand-in."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self._folder = folder
        self._zygote = zygote
        self._count = 0

    @contextmanager
    def service(self, **settings: str) -> Iterator[Service]:
        """Run Redis and a janitor; workers come later."""
        self._count += 1
        folder = self._folder / str(self._count)
        (folder / "redis").mkdir(parents=True)
        history = folder / "history.jsonl"
        history.touch()
        server = RedisServer(folder / "redis")
        server.start()
        try:
            with Service(self._zygote, server, History(history, folder.name), folder, settings) as service:
                service.start_janitor()
                yield service
        finally:
            server.kill()


def latency(lab: Lab, workers: int, *, parts: int) -> float:
    """Return how many seconds `workers` take over one song, from its acceptance to the end; intervals are defaults."""
    with lab.service() as service:
        for _ in range(workers):
            service.start_worker()
        wait_until(lambda: _waiting_workers(service) == workers, "all workers wait", limit_seconds=120)
        song = SongMaker("latency", {"parts": parts, "segment_seconds": PART_SECONDS})(workers)
        service.carry_out(Order("post", song))
        service.wait_for_event("finished")
        at = {event["event"]: event["at"] for event in service.history.events()}
    seconds: float = at["finished"] - at["accepted"]
    return round(seconds, 2)


def made_again(lab: Lab, *, kills: int) -> list[int]:
    """Return how many parts were made twice each time that the only worker was killed at a random moment."""
    rng = random.Random(1)
    again = []
    with lab.service(**SCALED) as service:
        for number in range(kills):
            seen = len(service.history.events())
            worker = service.start_worker(Plan(rng.choice(PART_POINTS), "kill", rng.randint(1, PARTS)))
            song = SongMaker("again", {"parts": PARTS, "segment_seconds": 0.01})(number)
            service.carry_out(Order("post", song))
            worker.wait(60)
            service.start_worker(Plan("after_finish", "kill")).wait(60)
            events = service.history.events()[seen:]
            again.append(sum(event["event"] == "part made" for event in events) - PARTS)
    return again


def queued(lab: Lab, kind: str, *, songs: int) -> float:
    """Return how many seconds four workers take over a queue of songs, `whole` or in `parts`."""
    with lab.service(UNMIX_PARTS=str(kind == "parts").lower()) as service:
        make = SongMaker("queue", {"parts": 4, "segments": 4, "segment_seconds": PART_SECONDS})
        service.carry_out(*(Order("post", make(number)) for number in range(songs)))
        for _ in range(4):
            service.start_worker()
        service.wait_for_event("finished", songs)
        events = service.history.events()
    ends = [event["at"] for event in events if event["event"] == "finished"]
    seconds: float = max(ends) - min(event["at"] for event in events if event["event"] == "separating")
    return round(seconds, 2)


def rounds(folder: Path, model: BenchModel, song: bytes, *, count: int) -> dict[str, Any]:
    """Return how long one worker takes over a song as a whole and in parts, and the peak of its memory.

    The two take turns in which comes first, as a machine gets slower while it is worked hard.
    """
    seconds: dict[str, list[float]] = {"whole": [], "parts": []}
    peaks: dict[str, float] = {}
    with ExitStack() as running:
        urls, pids = {}, {}
        for kind in seconds:
            service = running.enter_context(_real(folder / kind, model, UNMIX_PARTS=str(kind == "parts").lower()))
            urls[kind] = running.enter_context(service.rest())
            running.enter_context(service.janitor())
            pids[kind] = running.enter_context(service.worker(0))
            separate(urls[kind], [second_of_noise(0)])
        for number in range(count):
            for kind in sorted(seconds, reverse=bool(number % 2)):
                usage = watch(pids[kind], partial(separate, urls[kind], [_another(song, number)]))
                seconds[kind].append(round(usage.wall_s, 2))
                peaks[kind] = max(peaks.get(kind, 0.0), usage.peak_pss_mb)
    return {"seconds": seconds, "peak_mb": {kind: round(peak) for kind, peak in peaks.items()}}


def on_one_song(folder: Path, model: BenchModel, song: bytes, *, workers: int, bound: bool = False) -> dict[str, Any]:
    """Return how long so many workers of one thread take over a song, and when its first part could be fetched.

    Each is `bound` to a processor of its own, or else all take what they find, for their codecs too.
    """
    with _real(folder, model, UNMIX_THREADS="1") as service, ExitStack() as running:
        url = running.enter_context(service.rest())
        running.enter_context(service.janitor())
        for number in range(workers):
            with _processors({number} if bound else None):
                running.enter_context(service.worker(number))
        separate(url, [second_of_noise(number) for number in range(workers)])
        with requests.Session() as session:
            answer = session.post(f"{url}/apiv1/separate", files={"file": song}, timeout=60)
            answer.raise_for_status()
            job_url = f"{url}/apiv1/jobs/{answer.json()['hash']}"

            def job() -> Any:
                return session.get(job_url, timeout=60).json()

            taken = _when(lambda: job()["status"] == "running")
            first = _when(lambda: session.get(f"{job_url}/parts/0/vocals", timeout=60).status_code == 200)
            over = _when(lambda: job()["status"] in ("done", "failed"))
            ran = job()["ran"]
    return {
        "workers": workers,
        "seconds": round(over - taken, 2),
        "first_part_s": round(first - taken, 2),
        "windows_s": round((over - taken) / (2 * ran["parts"]["count"]), 2),
        "made": sorted(ran["parts"]["made"].values()),
    }


def on_songs_of_their_own(folder: Path, model: BenchModel, song: bytes, *, workers: int) -> float:
    """Return how long so many workers of one thread take over a song each, as a whole: what the machine has to give."""
    with _real(folder, model, UNMIX_THREADS="1", UNMIX_PARTS="false") as service, ExitStack() as running:
        url = running.enter_context(service.rest())
        running.enter_context(service.janitor())
        for number in range(workers):
            running.enter_context(service.worker(number))
        separate(url, [second_of_noise(number) for number in range(workers)])
        started = time.perf_counter()
        separate(url, [_another(song, number) for number in range(workers)])
    return round(time.perf_counter() - started, 2)


def stored(folder: Path, model: BenchModel, song: bytes) -> dict[str, Any]:
    """Return what a song in parts leaves in the store, by the kind of object: how many and how many bytes."""
    with _real(folder, model) as service, ExitStack() as running:
        url = running.enter_context(service.rest())
        running.enter_context(service.janitor())
        running.enter_context(service.worker(0))
        separate(url, [song])
    objects: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for info in FileStore(folder / "store").list(names.OUTPUT_BUCKET):
        key = info.name.key
        kind = "parts" if "/parts." in key else "stems" if key.count("/") == 2 and key.endswith(".mp3") else "others"
        objects[kind] += 1
        sizes[kind] += info.size_bytes
    return {kind: {"objects": objects[kind], "bytes": sizes[kind]} for kind in sorted(objects)}


@contextmanager
def _real(folder: Path, model: BenchModel, **settings: str) -> Iterator[RealService]:
    store = {
        "UNMIX_STORE_URL": f"file://{folder / 'store'}",
        "UNMIX_MODEL": model.name,
        "UNMIX_MODEL_DIR": model.model_dir,
        "UNMIX_CACHE_DIR": str(CONVERTED),
        **settings,
    }
    with RealService(folder, store) as service:
        yield service


@contextmanager
def _processors(numbers: set[int] | None) -> Iterator[None]:
    """Let what is started meanwhile run on these processors alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, numbers or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _another(song: bytes, number: int) -> bytes:
    """Return the same mp3 under another hash."""
    return song + bytes(128 * number)


def _when(condition: Callable[[], bool]) -> float:
    wait_until(condition, "a song gets on", limit_seconds=3600, pause_seconds=0.2)  # each look costs what is measured
    return time.perf_counter()


def _waiting_workers(service: Service) -> int:
    with redis.Redis.from_url(service.redis.url) as client:
        return sum(each["cmd"] == "blmove" for each in client.client_list())


if __name__ == "__main__":
    main()
