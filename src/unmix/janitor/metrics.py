"""What the janitor counts, and what it tells of the one queue and of what it keeps: nobody else tells of these.

The queue is counted when it is asked for. While Redis is away nothing is told of it: a 0 would be a lie.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from typing import Final, TypeAlias

from prometheus_client import Counter, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unmix.errors import QueueError, StoreError
from unmix.janitor.reconciler import Reconciled, Reconciler
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Sweep
from unmix.runtime.metrics import ProcessMetrics

#: The places in which a job can be; it is in one of them, so that they can be summed.
_PLACES: Final = ("waiting", "taken", "running", "delayed")

_Pass: TypeAlias = Callable[[Callable[[], None]], Reconciled]


class JanitorMetrics(ProcessMetrics):
    """The metrics of one janitor."""

    def __init__(self, queue: JobQueue, callbacks: Counter) -> None:
        """Tell of the queue, and how callbacks were delivered, which others count."""
        super().__init__("janitor")
        registry = self.registry
        registry.register(callbacks)
        registry.register(_Queue(queue, self.failed))
        help_text = "Jobs put back to the head of the queue, by why."
        self._swept = Counter("unmix_leases_swept", help_text, ["reason"], registry=registry)
        self._passes = self.durations("unmix_reconciler_pass_duration_seconds", "Time of a pass that came to its end.")
        help_text = "When the last pass of the reconciler came to its end; the start of the process before that."
        self._last_pass = Gauge("unmix_reconciler_last_pass_timestamp_seconds", help_text, registry=registry)
        self._last_pass.set(time.time())
        self._marks = Gauge("unmix_open_marks", "Jobs marked as open that the last pass saw.", registry=registry)
        help_text = "What the reconciler has mended, by what was wrong."
        self._mended = Counter("unmix_reconciler_mended", help_text, ["what"], registry=registry)
        for reason in ("retry", "lapsed", "unclaimed"):
            self._swept.labels(reason)
        for field in fields(Reconciled):
            self._mended.labels(field.name)

    def swept(self, swept: Sweep) -> None:
        """Count what a sweep put back."""
        self._swept.labels("retry").inc(swept.retries)
        self._swept.labels("lapsed").inc(swept.lapsed)
        self._swept.labels("unclaimed").inc(swept.unclaimed)

    def passes_of(self, reconciler: Reconciler) -> _Pass:
        """Return what makes a pass and counts it."""

        def run(on_step: Callable[[], None]) -> Reconciled:
            began = time.monotonic()
            try:
                done = reconciler.run(on_step)
            except (QueueError, StoreError) as error:
                self.failed(error.code)
                raise
            self._passes.observe(time.monotonic() - began)
            self._last_pass.set(time.time())
            self._marks.set(reconciler.marks)
            for what, count in asdict(done).items():
                self._mended.labels(what).inc(count)
            return done

        return run


class _Queue(Collector):
    """The queue at the moment of one scrape."""

    def __init__(self, queue: JobQueue, failed: Callable[[str], None]) -> None:
        self._queue = queue
        self._failed = failed

    def collect(self) -> Iterator[Metric]:
        try:
            counts = self._queue.views.counts()
        except QueueError as error:
            self._failed(error.code)
            counts = None
        yield GaugeMetricFamily(
            "unmix_queue_up", "Whether Redis answered this process at this scrape.", counts is not None
        )
        if counts is None:
            return
        jobs = GaugeMetricFamily("unmix_queue_jobs", "Jobs by where they are.", labels=["place"])
        for place in _PLACES:
            jobs.add_metric([place], getattr(counts, place))
        yield jobs
        yield GaugeMetricFamily("unmix_queue_open_jobs", "Jobs that are not over.", counts.open)
        age = counts.oldest_seconds
        yield GaugeMetricFamily("unmix_queue_oldest_job_age_seconds", "Age of the oldest job that is not over.", age)
        yield GaugeMetricFamily("unmix_queue_deliveries", "Callbacks to be delivered.", counts.outbox)
        yield GaugeMetricFamily("unmix_damaged_documents", "Documents that could not be read.", counts.damaged)
