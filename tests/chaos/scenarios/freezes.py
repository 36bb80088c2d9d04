"""Workers freeze where it is worst: between the last check of the lease and the put that commits."""

from collections.abc import Sequence
from random import Random

from chaos.checker import Verdict
from chaos.clients import Order, SongMaker
from chaos.history import Event
from chaos.monkey import Feeder, Monkey
from chaos.points import CHECK_TO_PUT, Plan
from chaos.run import Run, tell
from chaos.service import Service
from chaos.table import Claim, never, nothing_wrong
from chaos.zygote import Child
from unmix.names import hash_song


def freezes(run: Run) -> list[Claim]:
    """Freeze workers past their lease between its last check and the put that commits; remove and repost meanwhile."""
    rng = run.rng("freezes")
    with run.service("freezes") as service:
        songs = [SongMaker("freezes")(number) for number in range(run.size(600, 60))]
        verdict = freeze_at_commit(service, rng, songs)
    tell(verdict)
    overlaps = overtaken(service.history.events())
    return [
        never(
            "jobs with stems of more than one attempt; trials are freezes overtaken between check and put",
            len(verdict.mixed), overlaps, trials_met=overlaps >= run.size(100, 5),
        ),
        never("songs lost in the same run", len(verdict.lost), verdict.accepted),
        nothing_wrong(verdict, "the same run"),
    ]  # fmt: skip


def freeze_at_commit(service: Service, rng: Random, songs: Sequence[bytes]) -> Verdict:
    """Freeze workers over each third song between the check of the lease and the put that commits; wake them later.

    Some of the songs are removed and posted again meanwhile.
    """
    song_of = {hash_song(song): song for song in songs}

    def plans() -> list[Plan]:
        return [Plan(rng.choice(CHECK_TO_PUT), "freeze", number + rng.randint(0, 2)) for number in range(1, 200, 3)]

    feeder = Feeder(service, rng, [Order("post", song) for song in songs], most_open=20)
    monkey = Monkey(service, rng, workers=12, plans=plans)
    reposters: list[Child] = []

    def repost() -> None:
        for event in monkey.new_events:
            if event["event"] == "froze" and rng.random() < 0.3:
                song = song_of[event["job"]]
                reposters.append(service.start_client([Order("remove", song), Order("post", song)]))

    monkey.rampage(feeder, meanwhile=repost)
    for reposter in reposters:
        assert reposter.wait(60) == 0, f"{reposter.name} failed; its log says why"
    return service.verdict()


def overtaken(events: Sequence[Event]) -> int:
    """Count the freezes during which another worker took the song."""
    count = 0
    frozen: dict[int, tuple[str, bool]] = {}  # by pid: the job, and whether another has it
    for event in events:
        match event:
            case {"event": "froze", "pid": pid, "job": job}:
                frozen[pid] = job, False
            case {"event": "separating", "job": job}:
                frozen |= {pid: (held, True) for pid, (held, _) in frozen.items() if held == job}
            case {"event": "woke", "pid": pid}:
                count += frozen.pop(pid)[1]
    return count
