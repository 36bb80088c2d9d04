"""The metrics of one REST process, in a registry of its own.

Names and labels are described in `rest/README.md`. Labels are route templates, statuses and codes, never anything
that a client chose. The queue is counted when it is asked for, by `unmix_rest.routes.ops`.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unmix.queue.records import QueueCounts


class Metrics:
    """Counters of what REST did, and the queue as it is when it is asked for."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Counter("unmix_requests", "Answered requests.", ["route", "status"], registry=self._registry)
        self._accepted = Counter("unmix_songs_accepted", "Songs accepted for separation.", registry=self._registry)
        self._rejected = Counter("unmix_songs_rejected", "Songs turned away.", ["code"], registry=self._registry)

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
        """Return everything in Prometheus' text format; `counts` is None while Redis is away."""
        return generate_latest(self._registry) + generate_latest(_QueueGauges(counts))


class _QueueGauges(Collector):
    """The queue at the moment of one scrape. While Redis is away nothing is told of it: a 0 would be a lie."""

    def __init__(self, counts: QueueCounts | None) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        counts = self._counts
        yield GaugeMetricFamily("unmix_queue_up", "Whether Redis answered this scrape.", counts is not None)
        if counts is None:
            return
        jobs = GaugeMetricFamily("unmix_queue_jobs", "Jobs by where they are.", labels=["place"])
        for place in ("waiting", "running", "delayed"):  # a job is in one of them, so that they can be summed
            jobs.add_metric([place], getattr(counts, place))
        yield jobs
        yield GaugeMetricFamily("unmix_queue_open_jobs", "Jobs that are not over.", counts.open)
        yield GaugeMetricFamily("unmix_queue_deliveries", "Callbacks to be delivered.", counts.outbox)
        yield GaugeMetricFamily("unmix_damaged_documents", "Documents that could not be read.", counts.damaged)
