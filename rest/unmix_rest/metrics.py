"""The metrics of one REST process, in a registry of its own.

Names and labels are described in `rest/README.md`. Labels are route templates, statuses and codes, never anything
that a client chose. The queue is counted when it is asked for, by `unmix_rest.routes.ops`.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest

from unmix.queue.records import QueueCounts


class Metrics:
    """Counters of what REST did, and gauges of the queue as it was last seen."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Counter("unmix_requests", "Answered requests.", ["route", "status"], registry=self._registry)
        self._accepted = Counter("unmix_songs_accepted", "Songs accepted for separation.", registry=self._registry)
        self._rejected = Counter("unmix_songs_rejected", "Songs turned away.", ["code"], registry=self._registry)
        self._queue_up = Gauge("unmix_queue_up", "Whether Redis answered this scrape.", registry=self._registry)
        self._queue_jobs = Gauge("unmix_queue_jobs", "Jobs in the queue by place.", ["place"], registry=self._registry)

    def answered(self, *, route: str, status: int) -> None:
        """Count one answer."""
        self._requests.labels(route, str(status)).inc()

    def accepted(self) -> None:
        """Count a song that will be separated."""
        self._accepted.inc()

    def rejected(self, code: str) -> None:
        """Count a song that was turned away."""
        self._rejected.labels(code).inc()

    def render(self, counts: QueueCounts | None) -> bytes:
        """Return everything in Prometheus' text format; `counts` is None when Redis is away."""
        self._queue_up.set(counts is not None)
        self._queue_jobs.clear()
        if counts is not None:
            for place in ("waiting", "open", "running", "delayed", "outbox"):
                self._queue_jobs.labels(place).set(getattr(counts, place))
        return generate_latest(self._registry)
