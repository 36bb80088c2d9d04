"""Measures what clients of a running service wait for: `make bench-service`, on one machine.

How long after its acceptance a song is begun by an idle worker, and how long `GET /apiv1/queue` takes while many wait.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import redis
import requests

from benchmarks.report import publish
from benchmarks.songs import second_of_noise
from unmix.local.local import LocalPlan, LocalStack, free_port, running
from unmix.settings import Settings

SONGS: Final = 200
WAITING: Final = 10_000
ANSWERS: Final = 500
#: Pause before each song: the worker has to be idle, and waits in another place of its blocking take each time.
PAUSE_SECONDS: Final = (0.1, 1.3)


def main() -> None:
    """Measure both and add them to the page."""
    started = time.monotonic()
    latencies_ms = start_latencies_ms()
    answers_ms = queue_answers_ms()
    measured = {
        "waiting": WAITING,
        "start_latency_ms": latencies_ms,
        "queue_answer_ms": answers_ms,
        "took_minutes": round((time.monotonic() - started) / 60, 1),
    }
    publish("service", "make bench-service", measured)


def start_latencies_ms() -> list[float]:
    """Return the times from the 200 of a song to the worker's line that it was begun, the worker being idle."""
    pauses = np.random.default_rng(0).uniform(*PAUSE_SECONDS, SONGS)
    accepted: dict[str, float] = {}
    with _service(workers=1) as stack, requests.Session() as session:
        for number, pause_s in enumerate(pauses):
            answer = session.post(
                f"{stack.plan.url}/apiv1/separate", files={"file": second_of_noise(number)}, timeout=60
            )
            now = time.time()
            answer.raise_for_status()
            accepted[answer.json()["hash"]] = now
            while (
                session.get(f"{stack.plan.url}/apiv1/jobs/{answer.json()['hash']}", timeout=60).json()["status"]
                != "done"
            ):
                stack.check()
                time.sleep(0.05)
            time.sleep(pause_s)
        started = _started_at(stack.plan.logs / "worker-1.log")
    return [round(1000 * (started[job_id] - at), 2) for job_id, at in accepted.items()]


def queue_answers_ms() -> list[float]:
    """Return how long `GET /apiv1/queue` takes while nobody serves `WAITING` songs."""
    job_ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(WAITING)]
    with _service(workers=0) as stack, requests.Session() as session:
        with redis.Redis.from_url(stack.redis_url) as client:
            client.lpush("toWorker", *job_ids)
        times_ms = []
        for _ in range(ANSWERS):
            started = time.perf_counter()
            answer = session.get(f"{stack.plan.url}/apiv1/queue", timeout=60).json()
            times_ms.append(round(1000 * (time.perf_counter() - started), 2))
            assert answer["total"] == WAITING
    return times_ms


@contextmanager
def _service(*, workers: int) -> Iterator[LocalStack]:
    with TemporaryDirectory(prefix="unmix-bench-") as folder:
        plan = LocalPlan(data_dir=Path(folder), port=free_port(), workers=workers, model="demo")
        with running(Settings(), plan, say=print) as stack:
            stack.wait_until_ready(limit_seconds=300)
            yield stack


def _started_at(log: Path) -> dict[str, float]:
    """Return when each job was first begun, as seconds since the epoch, by the time stamps of the worker's log."""
    started: dict[str, float] = {}
    for line in log.read_text().splitlines():
        if "event='job started'" in line:
            stamp = line.partition("timestamp='")[2].partition("'")[0]
            started.setdefault(
                line.partition("job_id='")[2].partition("'")[0], datetime.fromisoformat(stamp).timestamp()
            )
    return started


if __name__ == "__main__":
    main()
