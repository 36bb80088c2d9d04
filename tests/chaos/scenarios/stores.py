"""The claims about S3 servers: with and without conditional puts, and behind a bad network."""

import time
from pathlib import Path

from chaos.checker import Verdict
from chaos.clients import Order, SongMaker
from chaos.monkey import Fault, Feeder, Monkey, random_deaths
from chaos.roles import STORE_TIMEOUT_SECONDS
from chaos.run import Run, reader_of, tell
from chaos.scenarios.freezes import freeze_at_commit, overtaken
from chaos.table import Claim, never
from faulty_proxy import Fault as StoreFault
from faulty_proxy import Request, faulty_proxy
from s3_servers import S3Server, serve_moto, serve_rclone

_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


def s3_kills(run: Run) -> list[Claim]:
    """Kill workers, clients and Redis on an S3 store."""
    rng = run.rng("s3_kills")
    with serve_moto(_folder(run, "moto")) as s3, run.service("s3_kills", s3=s3) as service:
        song = SongMaker("s3_kills")
        orders = [Order("post", song(number)) for number in range(run.size(300, 30))]
        feeder = Feeder(service, rng, orders, killed_share=0.2, most_open=50)
        monkey = Monkey(service, rng, workers=4, plans=lambda: random_deaths(rng, 0.6))
        faults = [
            Fault("killed", run.size(60, 6), monkey.kill_worker),
            Fault("redis killed", run.size(3, 1), monkey.restart_redis),
            Fault("flushed", 1, service.flush_redis),
        ]
        monkey.rampage(feeder, faults)
        verdict = service.verdict()
    tell(verdict)
    return [
        never(
            f"songs lost on an S3 store, {verdict.events['killed']} kills and crash points",
            len(verdict.lost), verdict.accepted, trials_met=not verdict.wrong,
        ),
    ]  # fmt: skip


def s3_freezes(run: Run) -> list[Claim]:
    """Freeze workers at their commit on an S3 store with conditional puts, and on one without."""
    with serve_moto(_folder(run, "s3_freezes_moto")) as s3:
        honouring, trials_honouring = _freeze_on(run, "s3_freezes_moto", s3)
    tell(honouring)
    with serve_rclone(_folder(run, "s3_freezes_rclone")) as s3:
        ignoring, trials_ignoring = _freeze_on(run, "s3_freezes_rclone", s3)
    # Who wakes there over a song that was removed, posted again and done undoes that end, until it is done again.
    again, ignoring.ended_twice = ignoring.ended_twice, []
    tell(ignoring)
    what = "lost songs and mixed-up stems on an S3 store that {} conditional puts; trials are overtaken freezes"
    return [
        never(what.format("honours"), len(honouring.wrong), trials_honouring),
        never(what.format("ignores"), len(ignoring.wrong), trials_ignoring),
        Claim("songs there that had to be finished again", f"{len(again)} of {ignoring.accepted}", "stated", True),
    ]


def _freeze_on(run: Run, scenario: str, s3: S3Server) -> tuple[Verdict, int]:
    """Return the verdict, and how many freezes were overtaken by another attempt."""
    with run.service(scenario, s3=s3) as service:
        song = SongMaker(scenario)
        songs = [song(number) for number in range(run.size(150, 20))]
        verdict = freeze_at_commit(service, run.rng(scenario), songs)
        return verdict, overtaken(service.history.events())


def store_faults(run: Run) -> list[Claim]:
    """Put a bad network and a busy server between everybody and the store."""
    rng = run.rng("store_faults")
    slow = 2 * STORE_TIMEOUT_SECONDS

    def share(percent: float, kind: str, *, seconds: float = 0, **answer: object) -> StoreFault:
        def matches(_: Request) -> bool:
            return rng.random() < percent / 100

        return StoreFault(kind, matches, times=10**9, meanwhile=lambda: time.sleep(seconds), **answer)  # type: ignore[arg-type]

    with serve_moto(_folder(run, "store_faults_moto")) as s3:
        s3.store().prepare()
        with faulty_proxy(s3.port) as proxy:
            proxy.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that are killed hang up
            proxy.faults = [
                share(3, "answer", status=503, body=_BUSY),
                share(2, "drop"),
                share(2, "lose"),
                share(2, "cut"),
                share(2, "pass", seconds=0.2),
                share(0.3, "drop", seconds=slow),
                share(0.3, "lose", seconds=slow),
            ]
            behind = S3Server(proxy.server_port)
            with run.service("store_faults", s3=behind) as service:
                service.read_objects = reader_of(s3)
                song = SongMaker("store_faults")
                orders = [Order("post", song(number)) for number in range(run.size(300, 30))]
                feeder = Feeder(service, rng, orders, most_open=50)
                monkey = Monkey(service, rng, workers=4, plans=lambda: random_deaths(rng, 0.5))
                monkey.rampage(feeder, [Fault("killed", run.size(30, 3), monkey.kill_worker)])
                proxy.faults = []
                verdict = service.verdict()
            requests = len(proxy.requests)
    tell(verdict)
    return [
        never(
            f"songs lost behind a store that fails about one in nine of {requests:,} requests",
            len(verdict.lost), verdict.accepted, trials_met=not verdict.wrong,
        ),
    ]  # fmt: skip


def _folder(run: Run, name: str) -> Path:
    folder = run.folder / f"{name}-server"
    folder.mkdir()
    return folder
