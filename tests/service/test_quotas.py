"""Quotas on a real Redis server: buckets that fill again, and places that are free again when something is over."""

import pytest
import redis

from support import eventually, song_hash_number
from unmix.job import JobStatus
from unmix.queue import keys
from unmix.queue.job_queue import JobQueue
from unmix.queue.quotas import Bucket, Level, Places

ANNA, BEN = "key:anna", "10.0.0.2"
JOBS = [song_hash_number(number) for number in range(5)]


def place(queue: JobQueue, job_id: str, *, holder: str = ANNA, most: int = 2, seconds: float = 60) -> Level:
    return queue.quotas.take(holder, {"jobs": Places(most, job_id, seconds)})["jobs"]


def places(queue: JobQueue, holder: str = ANNA) -> float:
    return queue.quotas.take(holder, {"jobs": Places(2)})["jobs"].used


def minutes(queue: JobQueue, amount: float, *, most: float = 10, holder: str = ANNA, seconds: float = 86_400) -> Level:
    return queue.quotas.take(holder, {"minutes": Bucket(most, seconds, amount)})["minutes"]


def end(queue: JobQueue, job_id: str) -> None:
    queue.settle(job_id, "g", JobStatus.CANCELLED, error_code="cancelled", callbacks=0)


def test_a_bucket_gives_what_it_holds_and_then_says_when_there_is_enough(queue: JobQueue) -> None:
    assert minutes(queue, 4).wait_seconds == 0
    level = minutes(queue, 6)
    assert level.wait_seconds == 0
    assert level.used == pytest.approx(10, abs=0.1)
    assert level.full_seconds == pytest.approx(86_400, rel=0.01)
    level = minutes(queue, 5)
    assert level.wait_seconds == pytest.approx(43_200, rel=0.01)
    assert level.used == pytest.approx(10, abs=0.1), "nothing was taken"
    assert minutes(queue, 10, holder=BEN).wait_seconds == 0


def test_a_bucket_fills_again_and_takes_back_what_was_too_much(queue: JobQueue) -> None:
    minutes(queue, 10)
    assert minutes(queue, -4).used == pytest.approx(6, abs=0.1)
    assert minutes(queue, -100).used == 0
    minutes(queue, 10, seconds=0.2)
    eventually(lambda: minutes(queue, 0, seconds=0.2).used == 0, "it is full")


def test_where_one_quota_has_too_little_nothing_is_taken_from_the_others(queue: JobQueue) -> None:
    minutes(queue, 10)
    levels = queue.quotas.take(ANNA, {"jobs": Places(2, JOBS[0], 60), "minutes": Bucket(10, 86_400, 5)})
    assert levels["jobs"].used == 0
    assert levels["minutes"].wait_seconds
    assert places(queue) == 0


def test_there_are_only_so_many_places(queue: JobQueue) -> None:
    assert [place(queue, job_id).used for job_id in JOBS[:2]] == [1, 2]
    refused = place(queue, JOBS[2])
    assert (refused.wait_seconds, refused.used) == (None, 2)
    assert place(queue, JOBS[2], holder=BEN).wait_seconds == 0
    again = place(queue, JOBS[1])
    assert (again.wait_seconds, again.used, again.had_place) == (0, 2, True)
    queue.quotas.leave_place("jobs", ANNA, JOBS[1])
    assert place(queue, JOBS[2]).wait_seconds == 0


def test_a_place_is_kept_for_its_time_and_then_for_as_long_as_the_job_is_open(queue: JobQueue) -> None:
    for job_id in JOBS[:2]:
        place(queue, job_id, seconds=0)
    assert places(queue) == 0, "they were never queued, and their time is over"
    for job_id in JOBS[:2]:
        place(queue, job_id)
        queue.submit(job_id, "g")
        queue.quotas.keep_place("jobs", ANNA, job_id)
    assert places(queue) == 2
    end(queue, JOBS[0])
    assert places(queue) == 1
    queue.forget(JOBS[1])
    assert places(queue) == 0


def test_a_job_that_was_never_given_a_place_has_none_to_keep(queue: JobQueue) -> None:
    queue.submit(JOBS[0], "g")
    queue.quotas.keep_place("jobs", ANNA, JOBS[0])
    assert places(queue) == 0


def test_nothing_of_a_holder_stays_for_ever(queue: JobQueue, redis_url: str) -> None:
    place(queue, JOBS[0])
    minutes(queue, 1)
    with redis.Redis.from_url(redis_url) as client:
        known = list(client.scan_iter(f"{keys.QUOTA_PREFIX}*"))
        assert len(known) == 2
        assert all(0 < client.ttl(key) <= 7 * 86_400 for key in known)
