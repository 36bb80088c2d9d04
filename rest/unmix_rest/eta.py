"""How long until a job is over: from how fast this service has been, and from what is served before it. No I/O."""

import heapq
from collections.abc import Mapping

from unmix.queue.pulses import Work
from unmix.queue.speeds import Speed


def expected_seconds(
    running: Mapping[str, Work], waiting: Mapping[str, Work], speeds: Mapping[str, Speed | None]
) -> dict[str, float]:
    """Return in how many seconds each job is expected to be over.

    `waiting` is in the order of service. Workers are counted by what runs: as many as there are work on while songs
    wait. Jobs of a model of which nothing is known yet, and those behind them, are left out.
    """
    return _served(running, waiting, speeds)[0]


def wait_seconds(
    running: Mapping[str, Work], waiting: Mapping[str, Work], speeds: Mapping[str, Speed | None], *, ahead: int
) -> float:
    """Return in how many seconds a worker is expected to begin with what comes behind `ahead` jobs.

    `waiting` are the first of those that are ahead; the others are taken to be like them. It is at least as long if
    nothing is known yet of the model of one of them.
    """
    soonest = min(_served(running, {}, speeds)[1])
    latest = min(_served(running, waiting, speeds)[1])
    return soonest + (latest - soonest) * ahead / max(1, len(waiting))


def _served(
    running: Mapping[str, Work], waiting: Mapping[str, Work], speeds: Mapping[str, Speed | None]
) -> tuple[dict[str, float], list[float]]:
    """Return when each job is over, and when each worker then is free."""
    ends: dict[str, float] = {}
    free_at = [0.0]
    for job_id, work in running.items():
        speed = speeds.get(work.model)
        if speed is None:
            return ends, free_at
        ends[job_id] = (1 - work.progress) * speed.seconds(work.song_seconds)
    free_at = list(ends.values()) or free_at
    heapq.heapify(free_at)
    for job_id, work in waiting.items():
        speed = speeds.get(work.model)
        if speed is None:
            return ends, free_at
        ends[job_id] = free_at[0] + speed.seconds(work.song_seconds)
        heapq.heapreplace(free_at, ends[job_id])
    return ends, free_at
