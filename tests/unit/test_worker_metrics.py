"""What a worker counts of songs and attempts, and tells of its child."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import utc_now
from unmix.outcome import Outcome, Ran, RanParts
from unmix.queue.records import Claim
from unmix_worker.messages import Ready
from unmix_worker.metrics import OK, RELEASED, WorkerMetrics

JOB_ID = "a" * 64
RAN = Ran("demo", "ab" * 32, "cpu", 44_100, duration_seconds=10.0, processing_seconds=4.0)


class Process(SimpleNamespace):
    """A child that nobody has started."""

    ready: Ready | None = None
    child_pid: int | None = None

    def __init__(self) -> None:
        super().__init__(crashes={})


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def metrics(process: Any) -> WorkerMetrics:
    return WorkerMetrics(process, device="cpu")


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def claim(attempt: int = 1, generation: str | None = "g") -> Claim:
    return Claim(JOB_ID, "token", attempt, generation, 0, 0, 0)


def test_a_job_waits_once_however_often_it_is_begun_again(metrics: WorkerMetrics) -> None:
    request = JobRequest(JOB_ID, SeparationOptions(model="demo"), utc_now())
    for number in (1, 2, 3):
        with metrics.attempt(claim(number)):
            assert value(metrics.registry, "unmix_worker_busy") == 1
            metrics.begun(request, claim(number))
    assert value(metrics.registry, "unmix_worker_busy") == 0
    assert value(metrics.registry, "unmix_queue_wait_seconds_count") == 1
    assert value(metrics.registry, "unmix_retakes_total") == 2


def test_nobody_knows_how_long_a_foreign_push_has_waited(metrics: WorkerMetrics) -> None:
    options = SeparationOptions(model="demo")
    metrics.begun(JobRequest(JOB_ID, options, utc_now()), claim(generation=None))
    metrics.begun(JobRequest(JOB_ID, options, "no time"), claim())
    assert value(metrics.registry, "unmix_queue_wait_seconds_count") == 0


def test_attempts_are_told_from_the_failures_that_somebody_has_to_mend(metrics: WorkerMetrics) -> None:
    for code in (OK, RELEASED, "lease_lost", "store_full", "separation_failed"):
        metrics.attempt_over(code)
        assert value(metrics.registry, "unmix_attempts_total", code=code) == 1
    failures = {
        code: value(metrics.registry, "unmix_failures_total", code=code) for code in ("store_full", "store_denied")
    }
    assert failures == {"store_full": 1, "store_denied": 0}
    assert value(metrics.registry, "unmix_failures_total", code="separation_failed") is None


def test_jobs_count_by_how_they_ended_and_known_failures_are_there_from_the_start(metrics: WorkerMetrics) -> None:
    assert value(metrics.registry, "unmix_jobs_total", outcome="failed", code="poison") == 0
    metrics.job_over(Outcome(JOB_ID, "g", JobStatus.DONE, utc_now()))
    metrics.job_over(Outcome(JOB_ID, "g", JobStatus.FAILED, utc_now(), error_code="undecodable"))
    assert value(metrics.registry, "unmix_jobs_total", outcome="done", code="") == 1
    assert value(metrics.registry, "unmix_jobs_total", outcome="failed", code="undecodable") == 1


def test_a_song_counts_with_its_time_and_its_seconds(metrics: WorkerMetrics) -> None:
    metrics.separated(RAN, "worker-1")
    assert value(metrics.registry, "unmix_separation_duration_seconds_sum") == 4.0
    assert value(metrics.registry, "unmix_realtime_factor_sum") == 0.4
    assert value(metrics.registry, "unmix_parts_total", by="self") == 0


@pytest.mark.parametrize(
    ("made", "found", "expected"),
    [
        ({"worker-1": 7}, 0, (7, 0, 0)),
        ({"worker-1": 3, "worker-2": 4}, 0, (3, 0, 4)),
        ({"worker-1": 3, "worker-2": 4}, 3, (3, 3, 1)),
        ({"worker-1": 3, "worker-2": 4}, 6, (3, 4, 0)),  # two of those found it had made itself
    ],
)
def test_parts_count_by_who_made_them(
    metrics: WorkerMetrics, made: dict[str, int], found: int, expected: tuple[int, int, int]
) -> None:
    parts = RanParts("kind", sum(made.values()), 100, made, found)
    metrics.separated(Ran("demo", "ab" * 32, "cpu", 44_100, 10.0, 4.0, parts=parts), "worker-1")
    told = tuple(value(metrics.registry, "unmix_parts_total", by=by) for by in ("self", "found", "helper"))
    assert told == expected


def test_of_a_child_that_is_not_there_little_is_told(metrics: WorkerMetrics, process: Process) -> None:
    assert value(metrics.registry, "unmix_model_loaded") == 0
    assert value(metrics.registry, "unmix_child_crashes_total", code="stalled") == 0
    process.crashes["memory_killed"] = 2
    assert value(metrics.registry, "unmix_child_crashes_total", code="memory_killed") == 2
