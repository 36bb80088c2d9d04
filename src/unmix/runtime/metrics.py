"""What the metrics of every process have in common, and the port on which worker and janitor tell theirs.

What each of them counts is said in `unmix_rest.metrics`, `unmix_worker.metrics` and `unmix.janitor.metrics`, each with
a registry of its own; docs/metrics.md tells of them all, kept complete by a test. Labels are words of ours (route
templates, statuses, codes), never anything that a client chose, and no ids: their number is bounded.
"""

import time
from importlib.metadata import version
from typing import Final

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)

from unmix.errors import InputError
from unmix.settings import Settings

log = structlog.get_logger()

#: Upper ends of the buckets of durations, in seconds: from 50 ms to two hours.
DURATION_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)

#: Errors that are somebody's to mend: of Redis, of the object store, and of the program. Others are nobody's fault, or
#: part of how the queue works.
FAILURE_CODES: Final = (
    "internal_error",
    *("queue_unavailable", "queue_denied", "queue_full"),
    *("store_unavailable", "store_denied", "store_refused", "store_full", "store_read_only", "bucket_missing"),
)
#: Codes that are told before they are met: what jobs fail for where somebody has to do something. Others appear later.
_TOLD_FROM_THE_START: Final = {
    "failed": ("poison", "gave_up", "input_missing", "bad_document", "model_unavailable"),
    "cancelled": ("cancelled",),
}


class ProcessMetrics:
    """A registry with what every process tells: what it is, since when, and failures that somebody has to mend."""

    def __init__(self, service: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        told = Gauge("unmix_build_info", "What this process is.", ["service", "version"], registry=self.registry)
        told.labels(service, version("track-unmix")).set(1)
        began = Gauge("unmix_start_time_seconds", "When this process began.", registry=self.registry)
        began.set(time.time())
        help_text = "Failures that somebody has to mend: of Redis, of the object store, of the program."
        self._failures = Counter("unmix_failures", help_text, ["code"], registry=self.registry)
        for code in FAILURE_CODES:  # a series that begins with its first failure would hide that one
            self._failures.labels(code)

    def failed(self, code: str) -> None:
        """Count an error by its code, if it is one that somebody has to mend."""
        if code in FAILURE_CODES:
            self._failures.labels(code).inc()

    def durations(self, name: str, help_text: str) -> Histogram:
        """Return a new histogram of durations, in seconds."""
        return Histogram(name, help_text, registry=self.registry, buckets=DURATION_BUCKETS)


class EndedJobs:
    """Jobs by how they ended, of those processes that end any."""

    def __init__(self, registry: CollectorRegistry, *statuses: str) -> None:
        """Count in `registry`; jobs end here with these `statuses`."""
        self._jobs = Counter("unmix_jobs", "Jobs that this process ended.", ["outcome", "code"], registry=registry)
        for status in statuses:
            for code in _TOLD_FROM_THE_START.get(status, ("",)):
                self._jobs.labels(status, code)

    def note(self, status: str, code: str | None = None) -> None:
        """Count a job that has ended; `code` is its error's, if it has one."""
        self._jobs.labels(status, code or "").inc()


def serve_metrics(registry: CollectorRegistry, settings: Settings) -> None:
    """Answer Prometheus from a thread until the process ends, if the settings name a port for that.

    Raises:
        InputError: nobody can listen there (`port_in_use`).
    """
    if settings.metrics_port is None:
        return
    place = f"{settings.metrics_host}:{settings.metrics_port}"
    try:
        start_http_server(settings.metrics_port, settings.metrics_host, registry)
    except OSError as error:
        message = f"the metrics cannot be told at {place} (UNMIX_METRICS_HOST, UNMIX_METRICS_PORT): {error.strerror}"
        raise InputError(message, code="port_in_use", retryable=True) from error
    log.info("metrics are told", host=settings.metrics_host, port=settings.metrics_port)
