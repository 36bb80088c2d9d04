"""A day of songs, second by second: who waits how long, for how many hours of pods, with workers that come and go.

    .venv/bin/python -m benchmarks.scale_day

Nothing runs here but arithmetic. Songs come as people send them: few at night, many in the evening, now and then an
album at once. Workers are scaled as `k8s/components/keda` asks for: one for each open job, up to ten, at once up, down
by one a minute after five minutes of less work, to none after ten minutes without any. Whom Kubernetes takes is decided
by age, or with `k8s/components/scale-in` by who is busy; whoever is taken busy finishes if that fits, or gives back.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

DAY_SECONDS: Final = 86_400
#: Songs an hour at the quietest and the busiest time, and albums of twelve in a day beside them.
SONGS_AN_HOUR: Final = (5, 150)
ALBUMS: Final = 12
#: Work on a song of three minutes on a Zen 4, and of one in thirty that is an hour long (docs/gke.md).
SONG_SECONDS: Final = 45
LONG_SECONDS: Final = 900
#: From the decision to a worker that takes songs: a node that is there, the image, the model.
START_SECONDS: Final = 30
#: What a worker may finish after SIGTERM: UNMIX_SHUTDOWN_SECONDS less 10.
GRACE_SECONDS: Final = 50
MOST_PODS: Final = 10
SYNC_SECONDS: Final = 15
STABILIZATION_SECONDS: Final = 300
DOWN_SECONDS: Final = 60
COOLDOWN_SECONDS: Final = 600


@dataclass(slots=True)
class Song:
    """One song: when it came, how much work it is, and when its last attempt began."""

    came_at: int
    work_seconds: int
    began_at: int | None = None  # the first attempt


@dataclass(slots=True)
class Pod:
    """A worker that is ready from some second on, perhaps with a song until another."""

    ready_at: int
    song: Song | None = None
    began_at: int = 0

    def left(self, now: int) -> int:
        """Return how many seconds its song still takes; 0 without one."""
        return 0 if self.song is None else self.began_at + self.song.work_seconds - now


#: What says which pod goes first: the one with the lowest rank, at a given second.
Rank = Callable[[Pod, int], tuple[int, ...]]


@dataclass(slots=True)
class Day:
    """What came of a day."""

    waits: list[int] = field(default_factory=list)
    pod_seconds: int = 0
    ended_busy: int = 0
    given_back: int = 0
    lost_seconds: int = 0  # of work, if songs were not made in parts that stay

    def row(self, name: str) -> str:
        """Return it as a row of a table."""
        waits = sorted(self.waits)
        p50, p99 = (waits[math.ceil(share * len(waits)) - 1] for share in (0.5, 0.99))
        hours = f"{self.pod_seconds / 3600:.0f}"
        ended = f"{self.ended_busy} | {self.given_back} | {self.lost_seconds / 60:.0f}"
        return f"| {name} | {len(waits)} | {p50} | {p99} | {hours} | {ended} |"


def songs_of_a_day(random: Random) -> deque[Song]:
    """Return the songs of a day, in the order in which they come."""
    quiet, busy = SONGS_AN_HOUR
    songs = []
    for second in range(DAY_SECONDS):
        wave = (1 - math.cos(2 * math.pi * (second / DAY_SECONDS - 1 / 6))) / 2  # least at 4, most at 16 o'clock
        if random.random() < (quiet + (busy - quiet) * wave**2) / 3600:
            songs.append(_song(second, random))
    for _ in range(ALBUMS):
        second = random.randrange(DAY_SECONDS)
        songs += [_song(second, random) for _ in range(12)]
    return deque(sorted(songs, key=lambda song: song.came_at))


def _song(second: int, random: Random) -> Song:
    usual = LONG_SECONDS if random.random() < 1 / 30 else SONG_SECONDS
    return Song(second, round(usual * random.uniform(0.6, 1.6)))


def by_age(pod: Pod, now: int) -> tuple[int, ...]:
    """Rank as ReplicaSets do without costs: who is not ready first, then the younger, in powers of two."""
    ready_for = now - pod.ready_at
    return (int(ready_for >= 0), math.floor(math.log2(max(ready_for, 0) + 1)))


def by_cost(pod: Pod, now: int) -> tuple[int, ...]:
    """Rank as they do with what the janitor writes."""
    return (int(now >= pod.ready_at), int(pod.song is not None), *by_age(pod, now))


def live(songs: deque[Song], rank: Rank | None, *, fixed: int = 0) -> Day:
    """Live through a day with `fixed` workers, or as many as KEDA asks for, of which `rank` says who goes first."""
    day, waiting = Day(), deque[Song]()
    pods = [Pod(0) for _ in range(fixed)]
    ending: list[Pod] = []
    wishes: deque[tuple[int, int]] = deque()
    down_at = open_at = 0
    now = 0
    while songs or waiting or any(pod.song for pod in (*pods, *ending)):
        while songs and songs[0].came_at <= now:
            waiting.append(songs.popleft())
        for pod in (*pods, *ending):
            if pod.song and pod.left(now) <= 0:
                pod.song = None
        ending = [pod for pod in ending if pod.song]
        for pod in pods:
            if waiting and pod.song is None and pod.ready_at <= now:
                pod.song, pod.began_at = waiting.popleft(), now
                if pod.song.began_at is None:
                    pod.song.began_at = now
                    day.waits.append(now - pod.song.came_at)
        day.pod_seconds += len(pods) + len(ending)
        if rank and now % SYNC_SECONDS == 0:
            open_jobs = len(waiting) + sum(pod.song is not None for pod in pods)
            open_at = now if open_jobs else open_at
            wishes.append((now, max(1, min(open_jobs, MOST_PODS))))
            while wishes[0][0] < now - STABILIZATION_SECONDS:
                wishes.popleft()
            if now - open_at > COOLDOWN_SECONDS:
                pods.clear()  # all idle
            elif open_jobs or pods:
                while len(pods) < wishes[-1][1]:
                    pods.append(Pod(now + START_SECONDS))
                if len(pods) > max(wish for _, wish in wishes) and now - down_at >= DOWN_SECONDS:
                    down_at = now
                    _end(min(pods, key=lambda pod: rank(pod, now)), pods, ending, waiting, day, now)
        now += 1
    return day


def _end(pod: Pod, pods: list[Pod], ending: list[Pod], waiting: deque[Song], day: Day, now: int) -> None:
    pods.remove(pod)
    if pod.song is None:
        return
    day.ended_busy += 1
    if pod.left(now) <= GRACE_SECONDS:
        ending.append(pod)
        return
    day.given_back += 1
    day.lost_seconds += now - pod.began_at
    waiting.appendleft(pod.song)


def main() -> None:
    """Print the day of each way to have workers."""
    print("| workers | songs | wait p50, s | p99, s | pod hours | ended busy | given back | minutes of work lost |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for fixed in (MOST_PODS, MOST_PODS // 3):
        print(live(songs_of_a_day(Random(18)), None, fixed=fixed).row(f"always {fixed}"))
    print(live(songs_of_a_day(Random(18)), by_age).row("KEDA"))
    print(live(songs_of_a_day(Random(18)), by_cost).row("KEDA, idle ones first"))


if __name__ == "__main__":
    main()
