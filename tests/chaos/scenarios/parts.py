"""Songs in parts: workers help each other and come to harm over it, parts are damaged, and attempts go on."""

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

from chaos.clients import Order, SongMaker
from chaos.history import Event
from chaos.monkey import WORKERS, Fault, Feeder, Monkey
from chaos.points import PART_POINTS, Plan
from chaos.run import Run, tell
from chaos.service import Service
from chaos.table import Claim, never, nothing_wrong
from unmix.queue.runs import RUN_PARTS

#: Long enough that a run lapses while its worker is frozen.
PARTS = 16
#: Fewer than there are workers: the others help.
OPEN = 3


def parts(run: Run) -> list[Claim]:
    """Kill and freeze leads and helpers over songs in parts, and damage parts, while songs are removed and reposted."""
    rng = run.rng("parts")
    songs, deaths = run.size(500, 30), run.size(400, 20)
    with run.service("parts") as service:
        song = SongMaker("parts", {"parts": PARTS, "segment_seconds": 0.02})
        orders = [order for number in range(songs) for order in _with_second_thoughts(rng, song(number))]
        feeder = Feeder(service, rng, orders, most_open=OPEN)
        monkey = Monkey(service, rng, workers=WORKERS, plans=lambda: _harm(rng))
        faults = [
            Fault("killed", deaths, monkey.kill_worker),
            Fault("froze", run.size(100, 5), monkey.freeze_worker),
            Fault("redis killed", run.size(5, 1), monkey.restart_redis),
            Fault("flushed", run.size(5, 1), service.flush_redis),
            Fault("part damaged", run.size(300, 15), lambda: damage_a_part(service, rng)),
        ]
        monkey.rampage(feeder, faults)
        verdict = service.verdict()
        shared = _shared(service.history.events())
    tell(verdict)
    seen = verdict.events
    under = (
        f"{seen['killed']} kills, {seen['froze']} freezes and {seen['part damaged']} damaged parts, "
        f"{shared} songs made by more than one"
    )
    met = seen["killed"] >= deaths and shared >= songs // 10
    return [
        never(f"songs in parts lost under {under}", len(verdict.lost), verdict.accepted, trials_met=met),
        never("songs with a part that is not theirs in the same run", len(verdict.mixed), verdict.accepted),
        nothing_wrong(verdict, "the same run"),
    ]


def continued(run: Run) -> list[Claim]:
    """Kill the only worker at a random moment of a song in parts, and let another one go on."""
    rng = run.rng("continued")
    kills, count = run.size(40, 4), 24
    with run.service("continued") as service:
        service.start_janitor()
        song = SongMaker("continued", {"parts": count, "segment_seconds": 0.01})
        for number in range(kills):
            worker = service.start_worker(Plan(rng.choice(PART_POINTS), "kill", rng.randint(2, count)))
            service.carry_out(Order("post", song(number)))
            worker.wait(60)
            heir = service.start_worker(Plan("after_finish", "kill"))
            heir.wait(60)
        verdict = service.verdict()
        made = Counter((event["song"], event["part"]) for event in service.history.events() if _is_part(event))
    tell(verdict)
    again = Counter(song for song, _ in made.elements())
    worst = max(again.values()) - count
    claim = f"parts of {count} made again after a kill at a random moment, the worst of {kills}"
    most = RUN_PARTS + 1
    return [
        Claim(claim, str(worst), f"≤ {most}", worst <= most and len(again) == kills),
        nothing_wrong(verdict, "the same run"),
    ]


def damage_a_part(service: Service, rng: Random) -> None:
    """Write over a file of any part, or remove it; any may be removed at this very moment."""
    output = service.folder / "store" / "output"
    files = sorted(
        Path(folder, name)
        for folder, _, found in os.walk(output)  # unlike `glob` it passes over folders that have just gone
        for name in found
        if Path(folder).name.startswith("parts.")
    )
    if not files:
        return
    path = rng.choice(files)
    with suppress(FileNotFoundError):
        if path.suffix == ".json" and rng.random() < 0.5:
            path.unlink()
        else:
            with path.open("r+b") as file:  # never a new one
                file.truncate()
                file.write(b"noise")
        service.history.note("part damaged", file=path.name)


def _harm(rng: Random) -> tuple[Plan, ...]:
    if rng.random() < 0.4:
        return ()
    return (Plan(rng.choice(PART_POINTS), rng.choice(("kill", "freeze")), rng.randint(1, 12)),)


def _with_second_thoughts(rng: Random, song: bytes) -> list[Order]:
    if rng.random() > 0.1:
        return [Order("post", song)]
    return [Order("post", song), Order("remove", song, rng.uniform(0, 0.5)), Order("post", song)]


def _shared(events: list[Event]) -> int:
    """Count the songs whose parts more than one worker made."""
    makers: dict[str, set[int]] = {}
    for event in events:
        if _is_part(event):
            makers.setdefault(event["song"], set()).add(event["pid"])
    return sum(len(pids) > 1 for pids in makers.values())


def _is_part(event: Event) -> bool:
    return bool(event["event"] == "part made")
