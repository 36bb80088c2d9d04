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
    ends: dict[str, float] = {}
    for job_id, work in running.items():
        speed = speeds.get(work.model)
        if speed is None:
            return ends
        ends[job_id] = (1 - work.progress) * speed.seconds(work.song_seconds)
    free_at = list(ends.values()) or [0.0]
    heapq.heapify(free_at)
    for job_id, work in waiting.items():
        speed = speeds.get(work.model)
        if speed is None:
            return ends
        ends[job_id] = free_at[0] + speed.seconds(work.song_seconds)
        heapq.heapreplace(free_at, ends[job_id])
    return ends
