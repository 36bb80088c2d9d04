"""What a worker's metrics cost: how many series it tells, how long a scrape takes, and how much of a song all of it is.

`python -m benchmarks.metrics` takes seconds, prints, and writes nothing. The worker is a process that has its metrics
and no child; what it would count of one song is counted again and again.
"""

import statistics
import time
from collections.abc import Callable
from typing import Final

import requests
from prometheus_client import start_http_server

from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import utc_now
from unmix.outcome import Outcome, Ran, RanParts
from unmix.queue.records import Claim
from unmix.settings import Settings
from unmix_worker.metrics import OK, WorkerMetrics
from unmix_worker.separation import SeparationProcess

SCRAPES: Final = 500
SONGS: Final = 5000
#: The shortest work on a song that anybody would mind: ten seconds of song with the demo model.
SHORTEST_SONG_SECONDS: Final = 1.0
#: How often Prometheus asks (k8s/components/monitoring).
SCRAPE_PAUSE_SECONDS: Final = 15.0

_JOB_ID: Final = "0" * 64
_REQUEST: Final = JobRequest(_JOB_ID, SeparationOptions(model="htdemucs"), utc_now())
_CLAIM: Final = Claim(_JOB_ID, "token", 1, "generation", 0, 0, 0)
_RAN: Final = Ran("htdemucs", "0" * 64, "cpu", 44_100, 180.0, 30.0, parts=RanParts("kind", 24, 1, {"worker": 24}))
_OUTCOME: Final = Outcome(_JOB_ID, "generation", JobStatus.DONE, utc_now())


def main() -> None:
    """Measure and print."""
    metrics = WorkerMetrics(SeparationProcess(Settings()), device="cpu")
    song_seconds = _each(lambda: _count_song(metrics), SONGS)
    server, thread = start_http_server(0, "127.0.0.1", metrics.registry)
    try:
        with requests.Session() as session:

            def scrape() -> str:
                return session.get(f"http://127.0.0.1:{server.server_port}/metrics").text

            series = [line for line in scrape().splitlines() if not line.startswith("#")]
            busy_before = time.process_time()
            scrapes_ms = sorted(1000 * _each(scrape, 1) for _ in range(SCRAPES))
            busy_seconds = (time.process_time() - busy_before) / SCRAPES  # of whoever asks, too
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    of_a_song = song_seconds / SHORTEST_SONG_SECONDS + busy_seconds / SCRAPE_PAUSE_SECONDS
    median, late = statistics.median(scrapes_ms), scrapes_ms[int(0.99 * SCRAPES)]
    print(f"series of a worker: {len(series)} (target: 200)")
    print(f"a scrape: {median:.1f} ms, 99 % within {late:.1f} ms (target: 20), {1000 * busy_seconds:.1f} ms of a core")
    print(f"what is counted of a song: {1e6 * song_seconds:.0f} µs")
    print(f"of a song that takes {SHORTEST_SONG_SECONDS:g} s, with a scrape each {SCRAPE_PAUSE_SECONDS:g} s: ", end="")
    print(f"{of_a_song:.3%} (target: 1 %)")


def _count_song(metrics: WorkerMetrics) -> None:
    """Do all that a worker does of metrics over one song."""
    with metrics.attempt(_CLAIM):
        metrics.begun(_REQUEST, _CLAIM)
        with metrics.fetching.time():
            pass
        with metrics.uploading.time():
            pass
        metrics.separated(_RAN, "worker")
        metrics.job_over(_OUTCOME)
        metrics.attempt_over(OK)


def _each(action: Callable[[], object], times: int) -> float:
    """Return how long one of many repetitions takes, in seconds."""
    began = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - began) / times


if __name__ == "__main__":
    main()
