"""The contract's literal BLPOP, in our worker and in a naive one."""

import signal
import time

import redis

from chaos import roles
from chaos.clients import Order, SongMaker
from chaos.monkey import WORKERS, Fault, Feeder, Monkey
from chaos.points import WORKER_POINTS, Plan
from chaos.run import Run, tell
from chaos.service import SCALED
from chaos.table import Claim, never, nothing_wrong
from chaos.zygote import Child
from unmix.names import hash_song


def blpop(run: Run) -> list[Claim]:
    """Take songs in the contract's literal form, which loses them in Redis, under kills: the reconciler finds them."""
    rng = run.rng("blpop")
    jobs, deaths = run.size(1_000, 60), run.size(150, 10)
    with run.service("blpop", SCALED | {"UNMIX_FETCH": "blpop"}) as service:
        song = SongMaker("blpop")
        feeder = Feeder(service, rng, [Order("post", song(number)) for number in range(jobs)])
        # Half of those that die at a point die between pop and claim.
        points = (*["after_take"] * len(WORKER_POINTS), *WORKER_POINTS)
        monkey = Monkey(
            service, rng, workers=WORKERS, plans=lambda: [Plan(rng.choice(points), "kill", rng.randint(1, 6))]
        )
        monkey.rampage(feeder, [Fault("killed", deaths, monkey.kill_worker)])
        verdict = service.verdict()
    tell(verdict)
    between = [event for event in service.history.events() if event.get("point") == "after_take"]
    return [
        never(
            f"songs lost with UNMIX_FETCH=blpop, {verdict.events['killed']} kills ({len(between)} from pop to claim)",
            len(verdict.lost), verdict.accepted, trials_met=verdict.events["killed"] >= deaths,
        ),
        nothing_wrong(verdict, "the same run"),
    ]  # fmt: skip


def control(run: Run) -> list[Claim]:
    """The naive LPUSH/BLPOP worker under the same kills: if it lost nothing, the other zeros would say little."""
    rng = run.rng("control")
    jobs, deaths = run.size(2_000, 200), run.size(200, 20)
    with run.service("control") as service, redis.Redis.from_url(service.redis.url) as client:
        done = service.folder / "done"
        done.mkdir()
        song = SongMaker("control")
        songs = [song(number, segment_seconds=0.02) for number in range(jobs)]
        client.lpush("toWorker", *songs)

        def start() -> Child:
            return service.fork("legacy", roles.run_naive_worker, service.history, done)

        workers = [start() for _ in range(WORKERS)]
        for _ in range(deaths):
            time.sleep(0.02)
            number = rng.randrange(WORKERS)
            service.history.note("killed", pid=workers[number].pid, point="any")
            workers[number].signal(signal.SIGKILL)
            workers[number] = start()
        service.wait_for(lambda: client.llen("toWorker") == 0, "all are taken")
        time.sleep(1)
        lost = sum(not (done / f"{hash_song(data)}.done").exists() for data in songs)
    return [
        Claim(
            f"control: songs lost by a naive LPUSH/BLPOP worker, {deaths} kills",
            f"{lost:,} of {jobs:,}",
            "> 0",
            lost > 0,
        ),
    ]
