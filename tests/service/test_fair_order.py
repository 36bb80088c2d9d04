"""Fair order within one list: each share has a turn in every round, on a real Redis server."""

from collections.abc import Iterator
from itertools import count, pairwise

import pytest
import redis

from support import RedisServer, song_hash_number
from unmix.errors import QueueError
from unmix.job import JobStatus
from unmix.queue import keys
from unmix.queue.job_queue import JobQueue, QueuePolicy


@pytest.fixture
def policy() -> QueuePolicy:
    return QueuePolicy(retry_seconds=0)


@pytest.fixture
def raw(redis_url: str) -> Iterator["redis.Redis"]:
    """What a foreign client of the contract sees."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


class Clients:
    """Clients that send songs, and a worker that serves them."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue = queue
        self._numbers = count(1)
        self._names: dict[str, str] = {}

    def send(self, share: str, songs: int = 1) -> list[str]:
        """Queue so many songs of a share; the nth of share `a` is called `an` in what is returned by `serve`."""
        job_ids = []
        for _ in range(songs):
            job_id = song_hash_number(next(self._numbers))
            self._names[job_id] = f"{share}{1 + sum(name[0] == share for name in self._names.values())}"
            self.queue.submit(job_id, "g1", share=share)
            job_ids.append(job_id)
        return job_ids

    def serve(self, songs: int = 1000) -> list[str]:
        """Let a worker begin with up to so many songs, and return which they were, in turn."""
        served = []
        for _ in range(songs):
            if not self.queue.has_waiting():
                break
            element = self.queue.take(block_seconds=1)
            assert element is not None
            if claim := self.queue.claim(element, element, "worker-1"):
                self.queue.finish(claim, JobStatus.DONE, error_code=None, callbacks=0)
                served.append(self._names.get(element, element))
        return served

    def cancel(self, job_id: str) -> None:
        self.queue.settle(job_id, "g1", JobStatus.CANCELLED, error_code="cancelled", callbacks=0)


@pytest.fixture
def clients(queue: JobQueue) -> Clients:
    return Clients(queue)


def test_one_song_waits_for_no_more_than_two_of_the_200_of_another(clients: Clients) -> None:
    clients.send("a", 200)
    assert clients.serve(3) == ["a1", "a2", "a3"]
    clients.send("b")
    assert clients.serve(2) == ["a4", "b1"]
    assert clients.serve() == [f"a{number}" for number in range(5, 201)]


def test_songs_of_one_share_are_served_as_they_came(clients: Clients) -> None:
    clients.send("a", 3)
    clients.send("b", 2)
    clients.send("a", 3)
    served = clients.serve()
    assert [name for name in served if name[0] == "a"] == [f"a{number}" for number in range(1, 7)]
    assert served[:4] == ["a1", "b1", "a2", "b2"]


def test_many_shares_have_their_turns_in_each_round(clients: Clients) -> None:
    clients.send("a", 4)
    clients.send("b", 2)
    clients.send("c", 3)
    assert clients.serve() == ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "c3", "a4"]


def test_who_always_has_one_song_waiting_gets_every_other_turn(clients: Clients) -> None:
    clients.send("a", 10)
    served: list[str] = []
    for _ in range(8):
        clients.send("b")
        served += clients.serve(2)
    assert all(one[0] != another[0] for one, another in pairwise(served))


def test_a_burst_that_was_served_while_nobody_else_waited_is_forgotten(clients: Clients) -> None:
    clients.send("a", 50)
    clients.serve()
    clients.send("b", 5)
    clients.send("a")
    assert clients.serve(2) == ["b1", "a51"]


def test_who_cancels_all_and_sends_another_song_has_its_turn_again(clients: Clients, raw: "redis.Redis") -> None:
    for job_id in clients.send("a", 50):
        clients.cancel(job_id)
    clients.send("b", 10)
    clients.send("a")
    assert clients.serve(2) == ["b1", "a51"]
    clients.serve()
    assert [key for key in raw.keys("unmix:rounds*") if key != keys.ROUNDS_NOW] == []


def test_nothing_is_won_by_cancelling_the_last_song_and_sending_it_again(clients: Clients, queue: JobQueue) -> None:
    *_, last = clients.send("a", 3)
    clients.send("b", 3)
    clients.cancel(last)
    queue.submit(last, "g2", share="a")
    assert clients.serve() == ["a1", "b1", "a2", "b2", "b3", "a3"]


def test_foreign_pushes_keep_their_places_and_are_not_starved(clients: Clients, raw: "redis.Redis") -> None:
    clients.send("a", 2)
    foreign = song_hash_number(99_999)
    raw.lpush("toWorker", foreign)
    served: list[str] = []
    for _ in range(10):
        clients.send("a")
        clients.send("b")
        served += clients.serve(1)
    assert foreign in served[:5]


def test_what_is_tried_again_or_given_back_is_served_first(clients: Clients, queue: JobQueue) -> None:
    first, second, *_ = clients.send("a", 5)
    for job_id in (first, second):
        assert queue.take(block_seconds=1) == job_id
        claim = queue.claim(job_id, job_id, "worker-1")
        assert claim is not None
        if job_id == first:
            assert queue.fail(claim, error_code="store_unavailable")
        else:
            queue.release(claim)
    queue.sweep()
    clients.send("b")
    assert clients.serve(4) == ["a1", "a2", "a3", "b1"]


def test_what_is_queued_again_without_a_share_goes_to_the_tail(
    clients: Clients, queue: JobQueue, raw: "redis.Redis"
) -> None:
    lost, *_ = clients.send("a", 3)
    raw.lrem("toWorker", 0, lost)
    assert queue.requeue(lost, "g1", callbacks=0, submitted_at_ms=1)
    assert clients.serve() == ["a2", "a3", "a1"]
    assert not raw.exists(keys.ROUNDS)


@pytest.mark.parametrize("popped", [["a2"], ["a3"], ["a2", "a3", "a4"], ["a1", "a2", "a3", "a4"]], ids=str)
def test_a_song_is_queued_whatever_a_foreign_consumer_has_popped(
    clients: Clients, queue: JobQueue, raw: "redis.Redis", popped: list[str]
) -> None:
    jobs = dict(zip(("a1", "a2", "a3", "a4"), clients.send("a", 4), strict=True))
    clients.send("b")
    for name in popped:
        raw.lrem("toWorker", 0, jobs[name])
    clients.send("b")
    left = [name for name in jobs if name not in popped]
    served = clients.serve()
    assert sorted(served) == sorted([*left, "b1", "b2"])
    assert served.index("b2") <= max(3, len(left)), "it is not behind all of them"


def test_a_job_that_is_removed_leaves_its_round(clients: Clients, queue: JobQueue, raw: "redis.Redis") -> None:
    first, *_ = clients.send("a", 2)
    queue.forget(first)
    assert raw.zcard(keys.ROUNDS) == raw.zcard(f"{keys.ROUNDS_OF_PREFIX}a") == 1


def test_a_redis_that_is_full_refuses_a_song_whole(own_redis: RedisServer) -> None:
    with JobQueue(own_redis.url) as queue, redis.Redis.from_url(own_redis.url) as admin:
        clients = Clients(queue)
        clients.send("a", 2)
        admin.config_set("maxmemory", 1)
        with pytest.raises(QueueError):
            clients.send("b")
        assert (admin.llen("toWorker"), admin.zcard(keys.ROUNDS), admin.zcard(keys.OPEN)) == (2, 2, 2)
        admin.config_set("maxmemory", 0)
        assert clients.serve() == ["a1", "a2"]
