"""Processes die: at random, at named points, over poisoned songs, and under HTTP."""

import signal
from collections.abc import Iterator
from random import Random

from chaos import roles
from chaos.checker import left_in_redis
from chaos.clients import Order, SongMaker
from chaos.monkey import WORKERS, Fault, Feeder, Monkey, random_deaths
from chaos.run import Run, tell
from chaos.service import SCALED
from chaos.table import Claim, never, nothing_wrong
from support import CallbackServer, free_port, make_song
from unmix.names import hash_song


def kills(run: Run) -> list[Claim]:
    """Kill everything at random and at named points, while songs are posted, cancelled, removed and posted again."""
    rng = run.rng("kills")
    jobs, deaths = run.size(10_000, 400), run.size(1_100, 50)
    restarts, flushes = run.size(20, 2), run.size(5, 1)
    with CallbackServer() as callbacks, run.service("kills", calls=callbacks.bodies) as service:
        # Some are removed for good.
        song = SongMaker("kills", {"segments": 3, "segment_seconds": 0.015})
        orders = list(_orders(rng, song, round(jobs * 1.02), callbacks.url))
        feeder = Feeder(service, rng, orders, killed_share=0.1)
        monkey = Monkey(service, rng, workers=WORKERS, plans=lambda: random_deaths(rng, 0.6))
        faults = [
            Fault("killed", deaths, monkey.kill_worker),
            Fault("froze", run.size(100, 5), monkey.freeze_worker),
            Fault("janitor killed", run.size(60, 5), monkey.kill_janitor),
            Fault("redis killed", restarts, monkey.restart_redis),
            Fault("flushed", flushes, service.flush_redis),
        ]
        monkey.rampage(feeder, faults)
        verdict = service.verdict()
    tell(verdict)
    seen = verdict.events
    named = sum(event["event"] == "killed" and event["point"] != "any" for event in service.history.events())
    enough = verdict.accepted >= jobs and seen["killed"] >= deaths
    under = (
        f"{seen['killed']:,} kills ({named:,} at named points), {seen['redis killed']} Redis kills, "
        f"{seen['flushed']} FLUSHALLs, {seen['janitor killed']} janitor kills"
    )
    return [
        never(f"accepted songs lost under {under}", len(verdict.lost), verdict.accepted, trials_met=enough),
        never("jobs with stems of more than one attempt in the same run", len(verdict.mixed), verdict.accepted),
        never("submissions finished twice in the same run", len(verdict.ended_twice), verdict.runs),
        never(
            "songs whose end was not called back in the same run",
            len(verdict.not_called_back), sum(order.callback_url is not None for order in orders),
        ),
        nothing_wrong(verdict, "the same run"),
        Claim("separations that were repeated in the same run", verdict.repeated_share, "stated", True),
    ]  # fmt: skip


def poison(run: Run) -> list[Claim]:
    """Post songs that kill every process that separates them, among others."""
    rng = run.rng("poison")
    bad, good = run.size(50, 5), run.size(500, 50)
    with run.service("poison") as service:
        song = SongMaker("poison")
        orders = [Order("post", song(n, poison=n < bad)) for n in range(bad + good)]
        rng.shuffle(orders)
        feeder = Feeder(service, rng, orders)
        monkey = Monkey(service, rng, workers=WORKERS)
        monkey.rampage(feeder, until=lambda: not left_in_redis(service.redis.url))
        verdict = service.verdict()
    tell(verdict)
    runs = [event["job"] for event in service.history.events() if event["event"] == "separating"]
    poisoned = [hash_song(song(number, poison=True)) for number in range(bad)]
    crashes = {runs.count(job_id) for job_id in poisoned}
    return [
        Claim(f"crashes until each of {bad} poisoned songs is failed", f"{sorted(crashes)}", "[3]", crashes == {3}),
        never("their neighbours lost", len(verdict.lost), good),
    ]


def http(run: Run) -> list[Claim]:
    """Post real audio to REST over HTTP while REST, workers and Redis are killed."""
    rng = run.rng("http")
    jobs = run.size(150, 15)
    port = free_port()
    with run.service("http", SCALED | {"UNMIX_PORT": str(port)}) as service:
        songs = [make_song(0.5, seed=number) for number in range(jobs)]
        orders = [order for data in songs for order in _with_second_thoughts(rng, data)]
        rest = service.fork("rest", roles.run_rest)

        def kill_rest() -> None:
            nonlocal rest
            service.history.note("rest killed", pid=rest.pid)
            rest.signal(signal.SIGKILL)
            rest.wait(10)
            rest = service.fork("rest", roles.run_rest)

        feeder = Feeder(service, rng, orders, rest_url=f"http://127.0.0.1:{port}")
        monkey = Monkey(service, rng, workers=3, plans=lambda: random_deaths(rng, 0.5))
        faults = [
            Fault("rest killed", run.size(20, 2), kill_rest),
            Fault("killed", run.size(40, 4), monkey.kill_worker),
            Fault("redis killed", run.size(3, 1), monkey.restart_redis),
        ]
        monkey.rampage(feeder, faults)
        verdict = service.verdict()
    tell(verdict)
    seen = verdict.events
    return [
        never(
            f"songs lost that REST accepted by HTTP, {seen['rest killed']} kills of it and {seen['killed']} of workers",
            len(verdict.lost), verdict.accepted,
        ),
        nothing_wrong(verdict, "the same run"),
    ]  # fmt: skip


def _orders(rng: Random, song: SongMaker, count: int, callback_url: str) -> Iterator[Order]:
    """Yield posts, some with a callback and some with second thoughts."""
    for number in range(count):
        data = song(number)
        if number % 10 == 0:
            yield Order("post", data, callback_url=callback_url)
        else:
            yield from _with_second_thoughts(rng, data)


def _with_second_thoughts(rng: Random, song: bytes) -> Iterator[Order]:
    """Yield the post of a song, and in some of a hundred cases what follows."""
    yield Order("post", song)
    thought = rng.random()
    pause = rng.uniform(0, 0.3)
    if thought < 0.02:
        yield Order("cancel", song, pause)
    elif thought < 0.03:
        yield Order("remove", song, pause)
    elif thought < 0.06:
        yield Order("remove", song, pause)
        yield Order("post", song)
