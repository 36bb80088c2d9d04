"""The queue on a real Redis server: order, leases, tokens, retries, sweeps."""

import json
import time
from collections.abc import Iterator
from dataclasses import astuple

import pytest
import redis

from support import RedisServer, eventually, song_hash_number
from unmix.errors import LeaseLostError, QueueError
from unmix.job import JobStatus
from unmix.queue import pulses
from unmix.queue.job_queue import JobQueue, QueuePolicy
from unmix.queue.outbox import PAGE, FailedTry
from unmix.queue.records import Claim, ModelCard

POLICY = QueuePolicy(lease_seconds=0.3, grace_seconds=0.3, retry_seconds=0.2, max_attempts=3, max_crashes=2)


@pytest.fixture
def policy() -> QueuePolicy:
    return POLICY


@pytest.fixture
def raw(redis_url: str) -> Iterator["redis.Redis"]:
    """What a foreign client of the contract sees."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def submit(queue: JobQueue, number: int, generation: str = "g1") -> str:
    job_id = song_hash_number(number)
    queue.submit(job_id, generation)
    return job_id


def take_and_claim(queue: JobQueue, worker: str = "worker-1") -> Claim:
    element = queue.take(block_seconds=1)
    assert element is not None
    claim = queue.claim(element, element, worker)
    assert claim is not None
    return claim


def sweep_until_back(queue: JobQueue) -> None:
    """Sweep as the janitor does until something was put back."""
    eventually(lambda: any(astuple(queue.sweep())), "something is put back")


def test_jobs_are_served_in_the_order_of_their_submission(queue: JobQueue) -> None:
    submitted = [submit(queue, number) for number in range(5)]
    assert [take_and_claim(queue).job_id for _ in range(5)] == submitted


def test_a_job_is_one_plain_id_at_the_left_of_the_contracts_list(queue: JobQueue, raw: "redis.Redis") -> None:
    first, second = submit(queue, 1), submit(queue, 2)
    assert raw.lrange("toWorker", 0, -1) == [second.encode(), first.encode()]


def test_the_literal_blpop_form_serves_the_newest_first(queue: JobQueue) -> None:
    submit(queue, 1)
    newest = submit(queue, 2)
    element = queue.take(block_seconds=1, fetch="blpop")
    assert element == newest
    assert queue.claim(element, newest, "worker-1", fetch="blpop") is not None


def test_a_take_without_work_ends_after_its_time(queue: JobQueue) -> None:
    assert queue.take(block_seconds=0.1) is None
    assert queue.take(block_seconds=0.1, fetch="blpop") is None


def test_the_same_submission_twice_is_queued_once(queue: JobQueue) -> None:
    job_id = submit(queue, 1)
    assert not queue.submit(job_id, "g1")
    assert queue.views.waiting(limit=10) == ([job_id], 1)


def test_a_submission_lost_from_the_list_is_queued_again_when_it_is_repeated(
    queue: JobQueue, raw: "redis.Redis"
) -> None:
    job_id = submit(queue, 1)
    raw.delete("toWorker")
    assert queue.submit(job_id, "g1")
    assert queue.views.waiting(limit=10) == ([job_id], 1)


def test_a_new_generation_revokes_the_token_of_the_old_one(queue: JobQueue) -> None:
    job_id = submit(queue, 1)
    old = take_and_claim(queue)
    queue.submit(job_id, "g2")
    with pytest.raises(LeaseLostError):
        queue.renew(old, progress=0.5)
    with pytest.raises(LeaseLostError):
        queue.finish(old, JobStatus.DONE, error_code=None, callbacks=0)
    assert take_and_claim(queue).job_id == job_id


def test_a_running_job_is_not_claimed_a_second_time(queue: JobQueue, raw: "redis.Redis") -> None:
    job_id = submit(queue, 1)
    take_and_claim(queue)
    raw.lpush("toWorker", job_id)
    element = queue.take(block_seconds=1)
    assert element == job_id
    assert queue.claim(element, job_id, "worker-2") is None


def test_only_the_valid_token_finishes_a_job(queue: JobQueue) -> None:
    job_id = submit(queue, 1)
    first = take_and_claim(queue, "worker-1")
    sweep_until_back(queue)
    second = take_and_claim(queue, "worker-2")
    assert (second.job_id, second.attempt) == (job_id, 2)
    for operation in (
        lambda: queue.renew(first, progress=1),
        lambda: queue.release(first),
        lambda: queue.fail(first, error_code="x"),
        lambda: queue.finish(first, JobStatus.DONE, error_code=None, callbacks=0),
    ):
        with pytest.raises(LeaseLostError):
            operation()
    queue.finish(second, JobStatus.DONE, error_code=None, callbacks=0)
    record = queue.views.record(job_id)
    assert record is not None
    assert record.status is JobStatus.DONE


def test_a_job_is_finished_once(queue: JobQueue) -> None:
    submit(queue, 1)
    claim = take_and_claim(queue)
    queue.finish(claim, JobStatus.DONE, error_code=None, callbacks=0)
    with pytest.raises(LeaseLostError):
        queue.finish(claim, JobStatus.DONE, error_code=None, callbacks=0)


def test_a_finished_job_is_dropped_when_its_id_is_pushed_again(queue: JobQueue, raw: "redis.Redis") -> None:
    job_id = submit(queue, 1)
    queue.finish(take_and_claim(queue), JobStatus.DONE, error_code=None, callbacks=0)
    raw.lpush("toWorker", job_id)
    element = queue.take(block_seconds=1)
    assert element is not None
    assert queue.claim(element, job_id, "worker-1") is None
    assert raw.llen("unmix:taken") == 0


def test_a_renewed_lease_is_not_swept(queue: JobQueue) -> None:
    submit(queue, 1)
    claim = take_and_claim(queue)
    for _ in range(20):  # several leases and graces long
        queue.renew(claim, progress=0.1)
        swept = queue.sweep()
        assert (swept.lapsed, swept.unclaimed) == (0, 0)
        time.sleep(0.06)


def test_a_lapsed_lease_puts_the_job_back_at_the_head(queue: JobQueue) -> None:
    oldest = submit(queue, 1)
    take_and_claim(queue)
    submit(queue, 2)
    sweep_until_back(queue)
    assert take_and_claim(queue).job_id == oldest


def test_one_sweep_after_a_long_pause_moves_nothing(queue: JobQueue, raw: "redis.Redis") -> None:
    # Before that nothing is moved anyway.
    eventually(lambda: raw.info("server")["uptime_in_seconds"] >= POLICY.grace_seconds, "Redis has been up for long")
    submit(queue, 1)
    take_and_claim(queue)
    time.sleep(POLICY.lease_seconds + POLICY.grace_seconds + 0.1)
    assert queue.sweep().lapsed == 0


def test_a_worker_that_wakes_after_the_sweep_goes_on_and_the_duplicate_is_dropped(queue: JobQueue) -> None:
    submit(queue, 1)
    claim = take_and_claim(queue)
    sweep_until_back(queue)
    queue.renew(claim, progress=0.9)
    element = queue.take(block_seconds=1)
    assert element is not None
    assert queue.claim(element, element, "worker-2") is None
    queue.finish(claim, JobStatus.DONE, error_code=None, callbacks=0)


def test_an_element_taken_but_never_claimed_is_put_back_uncharged(queue: JobQueue) -> None:
    submit(queue, 1)
    assert queue.take(block_seconds=1) is not None
    sweep_until_back(queue)
    assert take_and_claim(queue).attempt == 1


def test_a_foreign_json_element_survives_a_worker_that_dies_before_the_claim(
    queue: JobQueue, raw: "redis.Redis"
) -> None:
    element = json.dumps({"hash": song_hash_number(1)})
    raw.lpush("toWorker", element)
    assert queue.take(block_seconds=1) == element
    sweep_until_back(queue)
    assert queue.take(block_seconds=1) == element
    assert queue.claim(element, song_hash_number(1), "worker-1") is not None


def test_binary_junk_is_taken_and_discarded_whole(queue: JobQueue, raw: "redis.Redis") -> None:
    raw.lpush("toWorker", b"\xff\xfe\x00junk" * 100_000)
    element = queue.take(block_seconds=1)
    assert element is not None
    queue.discard(element)
    assert raw.llen("unmix:taken") == 0
    assert raw.llen("toWorker") == 0


def test_a_released_job_is_next_and_uncharged(queue: JobQueue) -> None:
    oldest = submit(queue, 1)
    claim = take_and_claim(queue)
    submit(queue, 2)
    queue.release(claim)
    again = take_and_claim(queue)
    assert (again.job_id, again.attempt) == (oldest, 1)


def test_a_failure_that_may_pass_is_retried_until_the_tries_are_used_up(queue: JobQueue) -> None:
    job_id = submit(queue, 1)
    for attempt in (1, 2):
        claim = take_and_claim(queue)
        assert claim.attempt == attempt
        assert queue.fail(claim, error_code="store_unavailable")
        record = queue.views.record(job_id)
        assert record is not None
        assert record.status is JobStatus.QUEUED
        assert record.retry_at_ms is not None
        sweep_until_back(queue)
    last = take_and_claim(queue)
    assert not queue.fail(last, error_code="store_unavailable")
    queue.finish(last, JobStatus.FAILED, error_code="gave_up", callbacks=0)  # the claim held until here


def test_crashes_are_counted_apart_from_other_failures(queue: JobQueue) -> None:
    submit(queue, 1)
    for _ in range(POLICY.max_attempts - 1):
        assert queue.fail(take_and_claim(queue), error_code="store_unavailable")
        sweep_until_back(queue)
    assert queue.fail(take_and_claim(queue), error_code="engine_crashed", crashed=True)
    sweep_until_back(queue)
    assert not queue.fail(take_and_claim(queue), error_code="engine_crashed", crashed=True)


def test_deaths_of_workers_are_counted_until_one_gets_further(queue: JobQueue) -> None:
    submit(queue, 1)
    for progress, lapses in ((0.5, 1), (0.5, 2), (0.7, 1)):
        claim = take_and_claim(queue)
        queue.renew(claim, progress=progress)
        sweep_until_back(queue)
        again = take_and_claim(queue)
        assert again.lapses == lapses
        queue.release(again)


def test_a_forgotten_job_is_in_no_key(queue: JobQueue, raw: "redis.Redis") -> None:
    waiting, running, delayed = (submit(queue, number) for number in (3, 1, 2))
    claims = {claim.job_id: claim for claim in (take_and_claim(queue), take_and_claim(queue), take_and_claim(queue))}
    queue.release(claims[waiting])
    queue.fail(claims[delayed], error_code="x")
    for job_id in (waiting, running, delayed):
        queue.forget(job_id)
    assert raw.keys("*") == []
    with pytest.raises(LeaseLostError):
        queue.renew(claims[running], progress=0)


def test_a_waiting_job_knows_its_place_in_the_line(queue: JobQueue) -> None:
    first, second = submit(queue, 1), submit(queue, 2)
    assert (queue.views.position(first), queue.views.position(second)) == (1, 2)
    take_and_claim(queue)
    assert (queue.views.position(first), queue.views.position(second)) == (None, 1)


def test_a_callback_is_due_once_the_job_is_finished(queue: JobQueue) -> None:
    job_id = song_hash_number(1)
    queue.submit(job_id, "g1", callbacks=1)
    claim = take_and_claim(queue)
    assert queue.outbox.due(limit=10) == []
    queue.add_callback(job_id, 1)
    queue.finish(claim, JobStatus.DONE, error_code=None, callbacks=1)
    assert sorted(queue.outbox.due(limit=10)) == [(job_id, 0), (job_id, 1)]
    queue.add_callback(job_id, 2)  # after the end: due at once
    assert len(queue.outbox.due(limit=10)) == 3


def test_a_failed_delivery_is_put_off_and_a_given_up_one_leaves_the_outbox(queue: JobQueue) -> None:
    job_id = song_hash_number(1)
    queue.add_callback(job_id, 0)
    assert queue.outbox.put_off(job_id, 0, retry_seconds=60) == 1
    assert queue.outbox.due(limit=10) == []
    assert queue.views.counts().outbox == 1
    queue.outbox.end(job_id, 0)
    assert queue.views.counts().outbox == 0


def test_what_is_known_of_a_delivery_goes_with_it(queue: JobQueue, raw: "redis.Redis") -> None:
    job_id = song_hash_number(1)
    failed = FailedTry("2026-01-01T00:00:00+00:00", "it answered 500", 500)

    def fail() -> None:
        queue.add_callback(job_id, 0)
        queue.outbox.note_host(job_id, 0, "example.com")
        queue.outbox.put_off(job_id, 0, retry_seconds=60, failed=failed)
        standing = queue.outbox.standings(job_id, [0, 1])
        assert (standing[0].tries, standing[0].last, standing[1].tries, standing[1].due_ms) == (1, failed, 0, None)

    fail()
    queue.outbox.end(job_id, 0)
    assert raw.hgetall("unmix:outbox:tries") == {}
    fail()
    queue.outbox.owe_anew(job_id, 0)
    assert queue.outbox.due(limit=10) == [(job_id, 0)]
    assert raw.hgetall("unmix:outbox:tries") == {}
    fail()
    queue.submit(job_id, "g1", callbacks=1)
    queue.finish(take_and_claim(queue), JobStatus.DONE, error_code=None, callbacks=1)
    assert raw.hgetall("unmix:outbox:tries") == {}
    queue.outbox.end(job_id, 0)
    queue.outbox.note_host(job_id, 0, "example.com")  # of a janitor that came too late
    queue.outbox.put_off(job_id, 0, retry_seconds=60, failed=failed)
    assert raw.hgetall("unmix:outbox:tries") == {}


def test_no_pause_is_shorter_than_the_receiver_asks_for_nor_longer_than_a_day(queue: JobQueue) -> None:
    for index in range(20):
        queue.add_callback(song_hash_number(1), index)
        queue.outbox.put_off(song_hash_number(1), index, retry_seconds=5, least_seconds=1000)
    for _ in range(50):
        queue.outbox.put_off(song_hash_number(1), 0, retry_seconds=5)
    now_ms = queue._link.now_ms()
    due = {index: each.due_ms for index, each in queue.outbox.standings(song_hash_number(1), range(20)).items()}
    assert all(990_000 < (due[index] or 0) - now_ms <= 1_200_000 for index in range(1, 20))
    assert 0.7 * 86_400_000 < (due[0] or 0) - now_ms <= 1.2 * 86_400_000


def test_more_deliveries_than_are_read_at_once_are_all_due(queue: JobQueue) -> None:
    entries = [(song_hash_number(number), 0) for number in range(2 * PAGE + 1)]
    for entry in entries:
        queue.outbox.owe(*entry)
    assert sorted(entry for entry, _ in queue.outbox.due_with_hosts()) == sorted(entries)


def test_the_logging_list_keeps_only_the_newest_lines(queue: JobQueue) -> None:
    for number in range(5):
        queue.log_list.push(f"node.rest.info:line {number}", max_lines=3)
    assert [line[-1] for line in queue.log_list.peek()] == ["2", "3", "4"]
    assert queue.log_list.pop(block_seconds=1) == "node.rest.info:line 2"


def test_a_model_is_known_once_a_worker_announced_it(queue: JobQueue) -> None:
    assert queue.models.get("demo") is None
    card = ModelCard("demo", "ab" * 32, ("drums", "bass", "other", "vocals"), 44100)
    queue.models.announce(card)
    assert queue.models.get("demo") == card


def test_a_server_that_is_not_there_is_a_queue_error(unused_port: int) -> None:
    with JobQueue(f"redis://127.0.0.1:{unused_port}/0") as queue, pytest.raises(QueueError) as caught:
        queue.ping()
    assert caught.value.code == "queue_unavailable"
    assert caught.value.retryable


def test_queued_work_survives_a_kill_of_the_server(own_redis: RedisServer) -> None:
    with JobQueue(own_redis.url) as queue:
        waiting = submit(queue, 1)
        own_redis.kill()
        with pytest.raises(QueueError):
            queue.views.counts()
        own_redis.start()
        assert queue.views.waiting(limit=10) == ([waiting], 1)


def test_places_cost_the_same_however_many_jobs_ask(
    queue: JobQueue, raw: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    job_ids = [submit(queue, number) for number in range(5)]
    raw.config_resetstat()
    assert queue.pulses.positions(job_ids) == {job_id: place for place, job_id in enumerate(job_ids, 1)}
    assert raw.info("stats")["total_commands_processed"] == 2  # of these one is the reset
    monkeypatch.setattr(pulses, "MOST_COUNTED", 2)
    assert queue.pulses.positions(job_ids) == {job_ids[0]: 1, job_ids[1]: 2}
