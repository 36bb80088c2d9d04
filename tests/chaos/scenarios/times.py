"""How long recovery takes at default settings, and that it never begins where nothing failed."""

import signal
import time
from collections.abc import Sequence
from statistics import quantiles

import redis

from chaos.checker import left_in_redis
from chaos.clients import Order, SongMaker
from chaos.history import Event
from chaos.monkey import WORKERS, Feeder, Monkey
from chaos.run import Run, tell
from chaos.service import SCALED
from chaos.table import Claim, never


def retake(run: Run) -> list[Claim]:
    """Kill thirty workers in the middle of a song each, and wait until others take these, at default settings."""
    rng = run.rng("retake")
    kills = run.size(30, 4)
    gate = run.folder / "retake-gate"
    with run.service("retake", {}) as service:
        service.start_janitor()
        workers = {worker.pid: worker for worker in (service.start_worker() for _ in range(kills))}
        song = SongMaker("retake", {"gate": str(gate), "segment_seconds": 0.5})
        service.carry_out(*(Order("post", song(number)) for number in range(kills)))
        service.wait_for_event("separating", kills)
        # At any moment between two renewals.
        for worker in rng.sample(sorted(workers.values(), key=lambda worker: worker.pid), kills):
            time.sleep(rng.uniform(0, 2 * 5 / kills))
            service.history.note("killed", pid=worker.pid)
            worker.signal(signal.SIGKILL)
            service.start_worker()
        service.wait_for(lambda: len(_retakes(service.history.events())) >= kills, "all are taken again", 150)
        gate.touch()
        verdict = service.verdict()
    tell(verdict)
    seconds = _retakes(service.history.events())
    p50, p99 = quantiles(seconds, n=100, method="inclusive")[49::49]
    return [
        Claim(
            f"until a dead worker's song is separated again, {len(seconds)} kills at default settings",
            f"p50 {p50:.1f} s, p99 {p99:.1f} s", "p99 ≤ 60 s", p99 <= 60 and not verdict.wrong,
        ),
    ]  # fmt: skip


def rebuild(run: Run) -> list[Claim]:
    """Let Redis forget ten thousand songs that are owed, at the default interval of the reconciler."""
    jobs = run.size(10_000, 500)
    with run.service("rebuild", {"UNMIX_RECONCILE_SECONDS": "5"} if run.quick else {}) as service:
        song = SongMaker("rebuild")
        feeder = Feeder(service, run.rng("rebuild"), [Order("post", song(n)) for n in range(jobs)], most_open=jobs + 1)
        while feeder.progress < 1:
            feeder.tend()
            time.sleep(0.05)
        service.start_janitor()
        time.sleep(run.size(15, 3))  # just after a pass, the worst moment: two more have to come
        with redis.Redis.from_url(service.redis.url) as client:
            service.flush_redis()
            flushed_at = time.monotonic()
            service.wait_for(lambda: client.llen("toWorker") >= jobs, "all are queued again", 300)
            seconds = time.monotonic() - flushed_at
            waiting = client.lrange("toWorker", 0, -1)
    whole = sorted(job_id.decode() for job_id in waiting) == service.accepted()
    return [
        Claim(
            f"until all of {jobs:,} owed songs are queued again after FLUSHALL, default settings",
            f"{seconds:.0f} s", "≤ 180 s", seconds <= 180 and whole,
        ),
    ]  # fmt: skip


def undisturbed(run: Run) -> list[Claim]:
    """Nothing fails: no song may be separated twice, not even one that is many leases long."""
    rng = run.rng("undisturbed")
    jobs, leases = run.size(10_000, 300), run.size(240, 30)
    lease_seconds = 0.5
    settings = SCALED | {"UNMIX_LEASE_SECONDS": str(lease_seconds), "UNMIX_RENEW_SECONDS": "0.1"}
    with run.service("undisturbed", settings) as service:
        song = SongMaker("undisturbed")
        long_song = song(0, segments=round(leases * lease_seconds / 0.1), segment_seconds=0.1)
        orders = [Order("post", long_song), *(Order("post", song(number)) for number in range(1, jobs))]
        feeder = Feeder(service, rng, orders)
        monkey = Monkey(service, rng, workers=WORKERS)
        monkey.rampage(feeder, until=lambda: not left_in_redis(service.redis.url))
        verdict = service.verdict()
    tell(verdict)
    return [
        never(
            f"songs separated twice without any fault; one is {leases} leases long",
            verdict.repeated, verdict.runs, trials_met=verdict.accepted >= jobs and not verdict.wrong,
        ),
    ]  # fmt: skip


def _retakes(events: Sequence[Event]) -> list[float]:
    """Return for each killed worker how long it took until its song was begun by another, in seconds."""
    begun = [event for event in events if event["event"] == "separating"]
    seconds = []
    for kill in (event for event in events if event["event"] == "killed"):
        job = next(event["job"] for event in begun if event["pid"] == kill["pid"])
        again = [event["at"] for event in begun if event["job"] == job and event["at"] > kill["at"]]
        seconds += [again[0] - kill["at"]] if again else []
    return seconds
