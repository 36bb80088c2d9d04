"""Workers are told to stop."""

import json
import signal
import time
from collections.abc import Sequence
from random import Random

from chaos.clients import Order, SongMaker
from chaos.history import Event
from chaos.monkey import WORKERS, Feeder
from chaos.points import WORKER_POINTS, Plan
from chaos.run import Run, tell
from chaos.service import Service
from chaos.table import Claim, never, nothing_wrong
from chaos.zygote import Child


def drains(run: Run) -> list[Claim]:
    """Tell workers to stop, at random moments and named points; half have time to finish a song, half have not."""
    rng = run.rng("drains")
    wanted = run.size(500, 30)
    with run.service("drains") as service:
        song = SongMaker("drains")
        lengths = [rng.randint(2, 20) for _ in range(run.size(1_200, 100))]
        orders = [Order("post", song(n, segments=length, segment_seconds=0.03)) for n, length in enumerate(lengths)]
        feeder = Feeder(service, rng, orders)
        service.start_janitor()
        drained = _drain(service, rng, feeder, wanted)
        for _ in range(WORKERS):
            service.start_worker()
        while feeder.progress < 1:
            feeder.tend()
            time.sleep(0.05)
        verdict = service.verdict()
        objects = service.read_objects()
    tell(verdict)
    outcomes = [json.loads(objects[f"output/{job_id}.json"]) for job_id in service.accepted()]
    told = _told_at(service.history.events())
    late = [worker for worker, grace_seconds in drained.items() if worker.ended_at - told[worker.pid] > grace_seconds]
    wrong = [worker for worker in drained if worker.status not in (0, -signal.SIGTERM)]
    slowest = max(worker.ended_at - told[worker.pid] for worker in drained)
    return [
        never("songs lost under SIGTERM; trials are workers told to stop", len(verdict.lost), len(drained)),
        never("songs charged with an attempt for it", sum(each["attempt"] != 1 for each in outcomes), len(drained)),
        never(f"exits later than the grace, or in disorder (slowest {slowest:.1f} s)", len(late + wrong), len(drained)),
        nothing_wrong(verdict, "the same run"),
    ]


def _drain(service: Service, rng: Random, feeder: Feeder, wanted: int) -> dict[Child, float]:
    """Start workers and tell them to stop, until `wanted` have ended; return them with the grace of each in seconds."""
    drained: dict[Child, float] = {}
    running: dict[Child, tuple[float, float]] = {}  # grace, and when to tell it
    while len(drained) < wanted or running:
        feeder.tend()
        while len(running) < WORKERS and len(drained) + len(running) < wanted:
            grace_seconds = rng.choice((3.0, 13.0))
            settings = {"UNMIX_SHUTDOWN_SECONDS": str(grace_seconds)}
            if rng.random() < 0.5:
                worker = service.start_worker(Plan(rng.choice(WORKER_POINTS), "stop", rng.randint(1, 2)), **settings)
                running[worker] = grace_seconds, time.monotonic() + 10  # it may never get there
            else:
                worker = service.start_worker(**settings)
                running[worker] = grace_seconds, time.monotonic() + rng.uniform(0, 1.5)
        for worker, (grace_seconds, tell_at) in list(running.items()):
            if time.monotonic() > tell_at:
                service.history.note("told to stop", pid=worker.pid)
                worker.signal(signal.SIGTERM)
                running[worker] = grace_seconds, float("inf")
            if not worker.alive:
                drained[worker] = running.pop(worker)[0]
        time.sleep(0.01)
    return drained


def _told_at(events: Sequence[Event]) -> dict[int, float]:
    """Return when each worker was told first."""
    return {event["pid"]: event["at"] for event in reversed(events) if event["event"] == "told to stop"}
