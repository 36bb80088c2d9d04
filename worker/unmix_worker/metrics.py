"""What a worker counts, and what it tells of its separating child when it is asked.

The worker says what happens (`unmix_worker.worker`); nothing here changes what it does.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unmix.job import JobRequest, JobStatus
from unmix.outcome import Outcome, Ran
from unmix.queue.records import Claim
from unmix.runtime.metrics import EndedJobs, ProcessMetrics
from unmix_worker.memory import taken_bytes
from unmix_worker.separation import SeparationProcess

#: Upper ends of the buckets of seconds of work for each second of song.
_FACTOR_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5)
#: How an attempt ends that comes to its end, and one that is given back because the worker has to stop.
OK: Final = "ok"
RELEASED: Final = "released"
#: Why children crash; a series that begins with its first crash would hide that one.
_CRASHES: Final = ("engine_crashed", "stalled", "memory_exceeded", "device_failed")


class WorkerMetrics(ProcessMetrics):
    """The metrics of one worker."""

    def __init__(self, process: SeparationProcess, *, device: str) -> None:
        super().__init__("worker")
        registry = self.registry
        self._busy = Gauge("unmix_worker_busy", "Jobs that this worker has claimed, 0 or 1.", registry=registry)
        self._retakes = Counter("unmix_retakes", "Claims of jobs that had been begun before.", registry=registry)
        self._attempts = Counter("unmix_attempts", "Attempts by how they ended.", ["code"], registry=registry)
        self._jobs = EndedJobs(registry, JobStatus.DONE, JobStatus.FAILED)
        self._parts = Counter(
            "unmix_parts", "Parts of the songs done here, by who made them.", ["by"], registry=registry
        )
        self._wait = self.durations("unmix_queue_wait_seconds", "From a job's submission to its first claim.")
        self.fetching = self.durations("unmix_fetch_duration_seconds", "Time to fetch a song.")
        self.uploading = self.durations("unmix_upload_duration_seconds", "Time to store the stems of a song.")
        self._separation = self.durations("unmix_separation_duration_seconds", "Time to separate a song.")
        help_text = "Seconds of work for each second of song."
        self._factor = Histogram("unmix_realtime_factor", help_text, registry=registry, buckets=_FACTOR_BUCKETS)
        registry.register(_Child(process, device))
        for code in (OK, RELEASED, "lease_lost", "superseded", "store_full"):
            self._attempts.labels(code)
        for by in ("self", "found", "helper"):
            self._parts.labels(by)

    @contextmanager
    def attempt(self, claim: Claim) -> Iterator[None]:
        """Count that a claimed job is worked on."""
        self._retakes.inc(claim.attempt > 1)
        with self._busy.track_inprogress():
            yield

    def begun(self, request: JobRequest, claim: Claim) -> None:
        """Note how long a job has waited, if nobody has worked on it before and it was submitted to us."""
        if claim.attempt == 1 and claim.generation is not None and request.submitted_at_seconds:
            self._wait.observe(max(0.0, time.time() - request.submitted_at_seconds))  # clocks differ

    def attempt_over(self, code: str) -> None:
        """Count how an attempt ended: `OK`, `RELEASED`, or the code of its error."""
        self._attempts.labels(code).inc()
        self.failed(code)

    def separated(self, ran: Ran, worker_id: str) -> None:
        """Note what a song has cost, and who made its parts."""
        self._separation.observe(ran.processing_seconds)
        if ran.duration_seconds:
            self._factor.observe(ran.processing_seconds / ran.duration_seconds)
        if ran.parts is not None:
            own = ran.parts.made.get(worker_id, 0)
            others = sum(ran.parts.made.values()) - own
            found = min(ran.parts.found, others)
            for by, count in (("self", own), ("found", found), ("helper", others - found)):
                self._parts.labels(by).inc(count)

    def job_over(self, outcome: Outcome) -> None:
        """Count a job that is over."""
        self._jobs.note(outcome.status.value, outcome.error_code)


class _Child(Collector):
    """The separating child at the moment of one scrape."""

    def __init__(self, process: SeparationProcess, device: str) -> None:
        self._process = process
        self._device = device

    def collect(self) -> Iterator[Metric]:
        ready, pid = self._process.ready, self._process.child_pid
        yield GaugeMetricFamily("unmix_model_loaded", "Whether the child has its model.", ready is not None)
        labels = ["model", "device", "backend", "precision"]
        what = GaugeMetricFamily("unmix_model_info", "What separates.", labels=labels)
        if ready is not None:
            what.add_metric([ready.card.name, self._device, ready.backend, ready.precision], 1)
        yield what
        both = taken_bytes(os.getpid())
        child = 0 if pid is None else taken_bytes(pid) or 0
        if both is not None:  # else the system does not say
            memory = GaugeMetricFamily("unmix_memory_bytes", "Memory that cannot be taken away.", labels=["process"])
            memory.add_metric(["worker"], max(0, both - child))
            memory.add_metric(["child"], child)
            yield memory
        crashes = CounterMetricFamily("unmix_child_crashes", "Crashes of the child, by why.", labels=["code"])
        for code, count in (dict.fromkeys(_CRASHES, 0) | self._process.crashes).items():
            crashes.add_metric([code], count)
        yield crashes
