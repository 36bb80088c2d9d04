"""Buckets of tokens on a real Redis server: so many at once, then so many in a minute, all of them or none."""

import pytest
import redis

from support import eventually
from unmix.queue.call_limits import CallRate
from unmix.queue.job_queue import JobQueue

SLOW = CallRate(per_minute=1, at_once=3)


def test_a_bucket_gives_what_it_holds_and_then_says_how_long_to_wait(queue: JobQueue) -> None:
    assert [queue.calls.take({"host:a": SLOW}) for _ in range(3)] == [{}] * 3
    waits = queue.calls.take({"host:a": SLOW})
    assert waits.keys() == {"host:a"}
    assert 0 < waits["host:a"] <= 60


def test_a_bucket_fills_again(queue: JobQueue) -> None:
    quick = CallRate(per_minute=600, at_once=1)
    assert queue.calls.take({"host:a": quick}) == {}
    assert queue.calls.take({"host:a": quick})
    eventually(lambda: queue.calls.take({"host:a": quick}) == {}, "there is a token again")
    assert queue.calls.take({"host:a": quick})


def test_buckets_are_apart(queue: JobQueue) -> None:
    once = CallRate(per_minute=1, at_once=1)
    assert queue.calls.take({"host:a": once}) == {}
    assert queue.calls.take({"host:b": once}) == {}


def test_where_one_bucket_is_empty_nothing_is_taken_from_the_others(queue: JobQueue) -> None:
    once = CallRate(per_minute=1, at_once=1)
    queue.calls.take({"job:1": once})
    assert queue.calls.take({"host:a": once, "job:1": once}).keys() == {"job:1"}
    assert queue.calls.take({"host:a": once, "job:2": once}) == {}


@pytest.mark.parametrize("rate", [CallRate(1e6, 100_000), CallRate(0.001, 1), CallRate(7.3, 2)], ids=str)
def test_a_bucket_leaves_nothing_behind_when_it_is_full(queue: JobQueue, redis_url: str, rate: CallRate) -> None:
    queue.calls.take({"host:a": rate})
    with redis.Redis.from_url(redis_url) as client:
        keys = [key for key in client.scan_iter("unmix:calls:*") if client.pttl(key) > 60_000 / rate.per_minute + 1]
        assert keys == []
        assert all(client.pttl(key) != -1 for key in client.scan_iter("unmix:calls:*"))
