"""What the janitor tells of the queue and of what it does."""

import pytest
from prometheus_client import CollectorRegistry, Counter

from reconciling import accept
from support import RedisServer, song_hash_number
from unmix.errors import QueueError
from unmix.janitor.metrics import JanitorMetrics
from unmix.janitor.reconciler import Reconciler
from unmix.ledger.ledger import Ledger
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Sweep
from unmix.store.file import FileStore

JOB_ID = song_hash_number(1)


def metrics_of(queue: JobQueue) -> JanitorMetrics:
    return JanitorMetrics(queue, Counter("unmix_callbacks", "Tries.", ["outcome"], registry=None))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_a_job_counts_in_one_place_at_a_time(queue: JobQueue) -> None:
    registry = metrics_of(queue).registry

    def places() -> dict[str, float]:
        told = {
            place: value(registry, "unmix_queue_jobs", place=place)
            for place in ("waiting", "taken", "running", "delayed")
        }
        return {place: count for place, count in told.items() if count}

    assert (places(), value(registry, "unmix_queue_oldest_job_age_seconds")) == ({}, 0)
    queue.submit(JOB_ID, "g")
    assert places() == {"waiting": 1}
    element = queue.take(block_seconds=1)
    assert places() == {"taken": 1}
    claim = queue.claim(str(element), JOB_ID, "worker-1")
    assert claim is not None
    assert places() == {"running": 1}
    queue.fail(claim, error_code="store_unavailable")
    assert places() == {"delayed": 1}
    assert value(registry, "unmix_queue_open_jobs") == 1
    queue.forget(JOB_ID)
    assert (places(), value(registry, "unmix_queue_open_jobs")) == ({}, 0)


def test_the_age_of_the_oldest_open_job_is_told(queue: JobQueue) -> None:
    queue.requeue(JOB_ID, "g", callbacks=0, submitted_at_ms=0)
    queue.submit(song_hash_number(2), "g")
    age = value(metrics_of(queue).registry, "unmix_queue_oldest_job_age_seconds")
    assert age is not None
    assert age > 50 * 365 * 86_400


def test_while_redis_is_away_nothing_is_told_of_the_queue(own_redis: RedisServer) -> None:
    with JobQueue(own_redis.url) as queue:
        registry = metrics_of(queue).registry
        assert value(registry, "unmix_queue_up") == 1
        own_redis.kill()
        told = {family.name for family in registry.collect() if "queue" in family.name or "damaged" in family.name}
        assert told == {"unmix_queue_up"}
        assert value(registry, "unmix_queue_up") == 0
        assert value(registry, "unmix_failures_total", code="queue_unavailable")


def test_sweeps_count_by_reason(queue: JobQueue) -> None:
    metrics = metrics_of(queue)
    metrics.swept(Sweep(retries=1, lapsed=2, unclaimed=3))
    told = [
        value(metrics.registry, "unmix_leases_swept_total", reason=reason)
        for reason in ("retry", "lapsed", "unclaimed")
    ]
    assert told == [1, 2, 3]


def test_a_pass_counts_with_what_it_has_seen_and_mended(queue: JobQueue, store: FileStore, ledger: Ledger) -> None:
    accept(store, ledger)
    metrics = metrics_of(queue)
    run = metrics.passes_of(Reconciler(queue, ledger))
    for _ in range(2):
        run(lambda: None)
    assert value(metrics.registry, "unmix_open_marks") == 1
    assert value(metrics.registry, "unmix_reconciler_mended_total", what="requeued") == 1
    assert value(metrics.registry, "unmix_reconciler_pass_duration_seconds_count") == 2


def test_a_pass_that_breaks_off_counts_as_a_failure_only(
    queue: JobQueue, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = metrics_of(queue)
    before = value(metrics.registry, "unmix_reconciler_last_pass_timestamp_seconds")

    def refuse() -> None:
        raise QueueError("no", code="queue_denied")

    monkeypatch.setattr(queue.views, "snapshot", refuse)
    with pytest.raises(QueueError):
        metrics.passes_of(Reconciler(queue, ledger))(lambda: None)
    assert value(metrics.registry, "unmix_failures_total", code="queue_denied") == 1
    assert value(metrics.registry, "unmix_reconciler_pass_duration_seconds_count") == 0
    assert value(metrics.registry, "unmix_reconciler_last_pass_timestamp_seconds") == before
