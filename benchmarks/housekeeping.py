"""What the janitor costs, seen from outside: its passes, its memory, and how long it takes to mend a lost Redis."""

import time
from pathlib import Path
from typing import Any, Final

from benchmarks import past
from benchmarks.measure import peak_rss_mb
from benchmarks.processes import Service, wait_until

#: Jobs that wait while passes are measured, and the share of the finished ones that waits when Redis forgets all.
OPEN: Final = 1_000
OWED_SHARE: Final = 0.1

#: Pause between the passes that are measured.
PAUSE_SECONDS: Final = 0.05
LOSSES: Final = 11
LOSSES_LIMIT_SECONDS: Final = 60
#: From the janitor's start until Redis forgets: its first pass has just ended, which is the worst moment.
SETTLE_SECONDS: Final = 15
PATIENCE_SECONDS: Final = 900


def passes(jobs: int, service: Service, store: Path) -> dict[str, Any]:
    """Return how long a janitor's passes take, and its memory, while `OPEN` jobs wait.

    A loss has to be seen in two passes before it is mended. So a job that Redis loses when a pass has just ended is
    back two pauses and two passes later. The first loss comes at any time, and counts only if it is the only one.
    """
    print(f"passes of the janitor, {jobs:,} finished jobs and {OPEN:,} open", flush=True)
    waiting_before = service.redis.llen("toWorker")
    past.owe(store, range(jobs, jobs + OPEN))
    passes_s: list[float] = []
    with service.janitor(UNMIX_RECONCILE_SECONDS=str(PAUSE_SECONDS)) as pid:
        _wait_for_waiting(service, waiting_before + OPEN)
        deadline = time.monotonic() + LOSSES_LIMIT_SECONDS
        while len(passes_s) < LOSSES and time.monotonic() < deadline:
            passes_s.append(round(_seconds_until_mended(service) / 2 - PAUSE_SECONDS, 3))
        return {"jobs": jobs, "passes_s": passes_s[1:] or passes_s, "peak_rss_mb": round(peak_rss_mb(pid), 1)}


def flushed(service: Service, store: Path, jobs: int) -> dict[str, Any]:
    """Let Redis forget everything at default settings, and return how long it is until all that is owed waits again."""
    owed = max(OPEN, round(OWED_SHARE * jobs))
    past.owe(store, range(jobs + OPEN, jobs + owed))
    before = service.redis.llen("toWorker") + owed - OPEN
    with service.janitor(UNMIX_RECONCILE_SECONDS=str(PAUSE_SECONDS)):
        _wait_for_waiting(service, before)
    print(f"FLUSHALL with {before:,} owed jobs", flush=True)
    with service.janitor() as pid:
        time.sleep(SETTLE_SECONDS)
        service.redis.flushall()
        flushed_at = time.monotonic()
        _wait_for_waiting(service, before)
        seconds = round(time.monotonic() - flushed_at, 1)
        return {"owed": before, "queued_again_s": seconds, "peak_rss_mb": round(peak_rss_mb(pid), 1)}


def _seconds_until_mended(service: Service) -> float:
    """Let Redis lose a waiting job, and return how long it is until the job waits again."""
    lost = str(service.redis.lindex("toWorker", -1))  # what comes back waits at the other end: never the same twice
    service.redis.lrem("toWorker", 0, lost)
    lost_at = time.monotonic()
    wait_until(
        lambda: service.redis.lpos("toWorker", lost) is not None,
        "a lost job is back",
        limit_seconds=PATIENCE_SECONDS,
        pause_seconds=0.005,
    )
    return time.monotonic() - lost_at


def _wait_for_waiting(service: Service, jobs: int) -> None:
    wait_until(lambda: service.redis.llen("toWorker") >= jobs, "all owed jobs wait", limit_seconds=PATIENCE_SECONDS)
