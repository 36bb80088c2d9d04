"""What one REST process counts. Of the queue it tells only whether it can be reached: how long it is tells the janitor.

Names and labels are described in docs/metrics.md.
"""

from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from unmix.errors import QueueError
from unmix.runtime.metrics import EndedJobs, ProcessMetrics

#: Upper ends of the buckets of answers, in seconds: few, as there is a row of them for each route.
_ANSWER_BUCKETS: Final = (0.01, 0.05, 0.25, 1, 5, 30, 300)


class Metrics(ProcessMetrics):
    """Counters of what REST did."""

    def __init__(self, kept_promises: Histogram) -> None:
        """Tell besides how well expected ends were kept, which others count."""
        super().__init__("rest")
        registry = self.registry
        registry.register(kept_promises)
        self._requests = Counter("unmix_requests", "Answered requests.", ["route", "status"], registry=registry)
        help_text = "Time from the moment that a thread takes a request to the beginning of its answer."
        self._answers = Histogram(
            "unmix_request_duration_seconds", help_text, ["route"], registry=registry, buckets=_ANSWER_BUCKETS
        )
        self._accepted = Counter("unmix_songs_accepted", "Songs accepted for separation.", registry=registry)
        self._rejected = Counter("unmix_songs_rejected", "Songs turned away.", ["code"], registry=registry)
        self._jobs = EndedJobs(registry, "cancelled")
        self.checking = self.durations("unmix_check_duration_seconds", "Time to check a song, its turn waited for.")
        self._queue_up = Gauge(
            "unmix_queue_up", "Whether Redis answered this process at this scrape.", registry=registry
        )

    def answered(self, *, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(route, str(status)).inc()
        self._answers.labels(route).observe(seconds)

    def accepted(self) -> None:
        """Count a song that will be separated."""
        self._accepted.inc()

    def rejected(self, code: str) -> None:
        """Count a song that was turned away."""
        self._rejected.labels(code).inc()

    def cancelled(self) -> None:
        """Count a job that was cancelled."""
        self._jobs.note("cancelled", "cancelled")

    def render(self, ping: Callable[[], None]) -> bytes:
        """Return everything in Prometheus' text format; `ping` asks Redis for a sign of life."""
        try:
            ping()
        except QueueError as error:
            self.failed(error.code)
            self._queue_up.set(0)
        else:
            self._queue_up.set(1)
        return generate_latest(self.registry)
