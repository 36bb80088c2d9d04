"""Runs of parts on a real Redis server: who takes which, what lapses, and when there is nothing to help with."""

import heapq
from dataclasses import replace
from random import Random

import pytest
import redis

from support import eventually, song_hash_number
from unmix.job import JobStatus
from unmix.queue.job_queue import JobQueue, QueuePolicy
from unmix.queue.records import Claim
from unmix.queue.runs import PartsOfJob, Run

JOB = song_hash_number(1)
LEVEL = {
    "samples": 5_000_000,
    "mean": 0.25,
    "std": 0.5,
    "measured_by": "ab",
    "own_rate": 44_100,
    "own_samples": 5_000_000,
}
PARTS = PartsOfJob(JOB, "g1", "exact-1", 10, 500_000, LEVEL)


@pytest.fixture
def policy() -> QueuePolicy:
    return QueuePolicy(lease_seconds=60)


@pytest.fixture
def claim(queue: JobQueue) -> Claim:
    """A claim of the job whose parts are asked for."""
    return claim_of(queue, JOB)


def claim_of(queue: JobQueue, job_id: str) -> Claim:
    queue.submit(job_id, "g1")
    claim = queue.claim(str(queue.take(block_seconds=1)), job_id, "worker-1")
    assert claim is not None
    return claim


def taken(queue: JobQueue, wished: int = 0, parts: PartsOfJob = PARTS) -> tuple[int, int]:
    run = queue.runs.take(parts, wished=wished)
    assert isinstance(run, Run)
    return run.first, run.stop


def test_the_first_part_is_a_run_of_its_own_and_the_others_come_in_order(queue: JobQueue, claim: Claim) -> None:
    assert queue.runs.ask_help(claim, PARTS, there=())
    assert taken(queue) == (0, 1)
    queue.runs.note_there(PARTS, 0)
    assert taken(queue) == (1, 5)
    while isinstance(queue.runs.take(PARTS), Run):
        pass
    assert queue.runs.take(PARTS) == 9  # all but one are being made


def test_who_makes_the_part_before_has_room_to_go_on(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=())
    assert taken(queue) == (0, 1)
    assert taken(queue) == (6, 9)  # nine are left: half of them to whoever makes the first part
    assert taken(queue, wished=1) == (1, 2)  # who goes on
    assert taken(queue) == (4, 5)


def test_nobody_begins_far_ahead_of_what_is_heard(queue: JobQueue, claim: Claim) -> None:
    long = replace(PARTS, count=1000)
    queue.runs.ask_help(claim, long, there=())
    assert [taken(queue, parts=long) for _ in range(3)] == [(0, 1), (9, 13), (5, 9)]


def test_nobody_begins_in_a_gap_to_which_another_comes_while_there_is_a_whole_run_elsewhere(
    queue: JobQueue, claim: Claim
) -> None:
    long = replace(PARTS, count=30)
    queue.runs.ask_help(claim, long, there=())
    assert [taken(queue, parts=long) for _ in range(5)] == [(0, 1), (9, 13), (5, 9), (20, 23), (3, 5)]


def test_a_gap_that_nobody_comes_to_is_made_first(queue: JobQueue, claim: Claim) -> None:
    long = replace(PARTS, count=1000)
    queue.runs.ask_help(claim, long, there=range(20))
    assert taken(queue, parts=long) == (20, 24)
    queue.runs.note_missing(long, 7)
    assert taken(queue, parts=long) == (7, 8)


@pytest.mark.parametrize("seed", range(20))
def test_whoever_asks_gets_a_run_while_any_part_is_free(queue: JobQueue, claim: Claim, seed: int) -> None:
    chance = Random(seed)
    parts = replace(PARTS, count=chance.randint(1, 30))
    there = {index for index in range(parts.count) if chance.random() < 0.3}
    queue.runs.ask_help(claim, parts, there)
    runs: list[Run] = []
    for _ in range(60):
        held = {index for run in runs for index in range(run.first, run.stop)} - there
        match chance.choice(["take", "take", "there", "missing", "left"]):
            case "take":
                wished = chance.choice([0, chance.randint(0, parts.count), *(run.stop for run in runs)])
                run = queue.runs.take(parts, wished=wished)
                if len(held | there) == parts.count:
                    assert run == len(held)
                else:
                    assert isinstance(run, Run)
                    assert not (held | there) & {*range(run.first, run.stop)}
                    runs.append(run)
            case "there" if held:
                there.add(made := chance.choice([*held]))
                queue.runs.note_there(parts, made)
                runs = [shorter for run in runs for shorter in without(run, made)]
            case "missing" if there:
                there.remove(damaged := chance.choice([*there]))
                queue.runs.note_missing(parts, damaged)
            case "left" if runs:
                left = chance.choice(runs)
                queue.runs.give_back(parts, left)
                runs = [run for run in runs if run.token != left.token]


def without(run: Run, index: int) -> list[Run]:
    """Return what is held of a run once a part is there."""
    around = [Run(run.first, min(index, run.stop), run.token), Run(max(index + 1, run.first), run.stop, run.token)]
    return [run for run in around if run.first < run.stop] if run.first <= index < run.stop else [run]


def windows_until_the_end(queue: JobQueue, workers: int, count: int, *, slow_lead: int = 1) -> int:
    """Return after how many windows' time a song of so many parts is done, by clocks that only count windows.

    Whoever leads takes `slow_lead` times as long as the others.
    """
    parts = replace(PARTS, count=count)
    todo: list[tuple[int, int, int]] = [(0, worker, 0) for worker in range(workers)]  # when, who, what it wishes
    there: list[tuple[int, int]] = []
    end = 0
    while todo:
        now, worker, wished = heapq.heappop(todo)
        while there and there[0][0] <= now:
            queue.runs.note_there(parts, heapq.heappop(there)[1])
        run = queue.runs.take(parts, wished=wished)
        if not isinstance(run, Run):
            continue  # others make what is left
        window = 1 if worker else slow_lead
        now += window * (run.first not in (0, wished))  # the one before it
        for index in range(run.first, run.stop):
            now += 2 * window
            heapq.heappush(there, (now, index))
        end = max(end, now)
        heapq.heappush(todo, (now, worker, run.stop))
    return end


@pytest.mark.parametrize("workers", [2, 4, 8, 16])
def test_many_workers_take_about_their_share_of_one_workers_time(queue: JobQueue, claim: Claim, workers: int) -> None:
    queue.runs.ask_help(claim, replace(PARTS, count=52), there=())
    assert windows_until_the_end(queue, workers, 52) <= (1 / workers + 0.15) * 2 * 52


def test_two_workers_compute_a_song_of_four_minutes_in_little_more_than_half_the_windows(
    queue: JobQueue, claim: Claim
) -> None:
    queue.runs.ask_help(claim, replace(PARTS, count=21), there=())
    assert windows_until_the_end(queue, 2, 21) <= 2 * 21 / 1.7


def test_nobody_waits_for_a_slow_worker_longer_than_for_the_part_it_makes(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, replace(PARTS, count=21), there=())
    assert windows_until_the_end(queue, 16, 21, slow_lead=4) < 2 * (2 * 4)  # as long as two of its parts take


def test_many_workers_begin_rarely_on_a_long_song(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, replace(PARTS, count=300), there=())
    assert windows_until_the_end(queue, 16, 300) <= 1.2 * 2 * 300 / 16


def test_towards_the_end_nobody_takes_more_than_a_share_of_what_is_left(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=range(3))
    assert [taken(queue) for _ in range(3)] == [(3, 7), (7, 8), (9, 10)]


def test_who_goes_on_gets_what_follows_if_nobody_has_it(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=())
    assert taken(queue, wished=5) == (5, 9)
    assert taken(queue, wished=5) == (0, 1)
    assert taken(queue, wished=1) == (1, 2)  # half a third of what is left, as three work on it


def test_parts_that_are_there_are_not_made_again(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=(0, 2, 3))
    assert [taken(queue) for _ in range(3)] == [(1, 2), (4, 6), (8, 9)]


def test_help_is_over_when_all_parts_are_there(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=range(9))
    assert taken(queue) == (9, 10)
    assert queue.runs.take(PARTS) == 1
    queue.runs.note_there(PARTS, 9)
    assert queue.runs.take(PARTS) == 0
    assert queue.runs.wanted("exact-1") == []


def test_a_part_that_was_damaged_is_made_again(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=range(10))
    queue.runs.note_missing(PARTS, 4)
    assert taken(queue) == (4, 5)


def test_a_run_whose_lease_lapsed_is_taken_by_the_next(redis_url: str, claim: Claim) -> None:
    with JobQueue(redis_url, policy=QueuePolicy(lease_seconds=0.2)) as hasty:
        hasty.runs.ask_help(claim, PARTS, there=range(9))
        first = hasty.runs.take(PARTS)
        assert isinstance(first, Run)
        eventually(lambda: isinstance(hasty.runs.take(PARTS), Run), "the run has lapsed")


def test_a_run_that_is_renewed_stays_and_one_that_is_given_back_is_free(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=range(6))
    run = queue.runs.take(PARTS)
    assert isinstance(run, Run)
    assert queue.runs.renew(PARTS, run)
    assert [taken(queue) for _ in range(2)] == [(9, 10), (8, 9)]
    assert queue.runs.take(PARTS) == 4
    queue.runs.note_there(PARTS, 6)
    queue.runs.give_back(PARTS, run)
    assert taken(queue) == (7, 8)  # what is there stays there


def test_the_oldest_job_is_helped_first_and_only_by_workers_that_make_the_same(queue: JobQueue, claim: Claim) -> None:
    other = replace(PARTS, job_id=song_hash_number(2), kind="fast-1")
    queue.runs.ask_help(claim, PARTS, there=())
    queue.runs.ask_help(claim_of(queue, other.job_id), other, there=())
    assert queue.runs.wanted("exact-1") == [PARTS]
    assert queue.runs.wanted("fast-1") == [other]
    assert queue.runs.wanted("exact-2") == []
    assert queue.runs.take(replace(PARTS, kind="fast-1")) is None


def test_who_has_lost_the_job_cannot_ask_for_help(queue: JobQueue, claim: Claim) -> None:
    queue.submit(JOB, "g2")
    assert not queue.runs.ask_help(claim, PARTS, there=())
    assert queue.runs.wanted("exact-1") == []


@pytest.mark.parametrize("end", ["done", "removed", "submitted anew"])
def test_helpers_of_a_job_that_is_over_stop_and_get_nothing_more(queue: JobQueue, claim: Claim, end: str) -> None:
    queue.runs.ask_help(claim, PARTS, there=())
    run = queue.runs.take(PARTS)
    assert isinstance(run, Run)
    if end == "done":
        queue.finish(claim, JobStatus.DONE, error_code=None, callbacks=0)
    elif end == "removed":
        queue.forget(JOB)
    else:
        queue.submit(JOB, "g2")
    assert not queue.runs.renew(PARTS, run)
    assert queue.runs.take(PARTS) is None
    assert queue.runs.wanted("exact-1") == []


def test_a_later_attempt_finds_what_helpers_are_making(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=())
    assert taken(queue) == (0, 1)
    queue.runs.note_there(PARTS, 0)
    helper = queue.runs.take(PARTS)
    queue.release(claim)
    assert isinstance(helper, Run)
    assert queue.runs.renew(PARTS, helper)  # the job waits, and what is made of it counts
    again = queue.claim(str(queue.take(block_seconds=1)), JOB, "worker-2")
    assert again is not None
    queue.runs.ask_help(again, PARTS, there=(0,))
    assert taken(queue) == (6, 8)


def test_parts_of_an_earlier_submission_are_forgotten(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=range(10))
    queue.submit(JOB, "g2")
    again = queue.claim(str(queue.take(block_seconds=1)), JOB, "worker-1")
    assert again is not None
    anew = replace(PARTS, generation="g2")
    queue.runs.ask_help(again, anew, there=())
    assert taken(queue, parts=anew) == (0, 1)
    queue.runs.note_there(PARTS, 1)  # by a helper that slept
    assert taken(queue, wished=1, parts=anew) == (1, 4)


def test_what_redis_forgot_is_nothing_to_help_with(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=())
    queue._redis.flushall()
    assert queue.runs.take(PARTS) is None
    assert queue.runs.wanted("exact-1") == []


@pytest.mark.parametrize("fields", [{}, {"parts": "many"}, {"level": "["}, {"level": "5"}, {"length": ""}], ids=str)
def test_what_another_version_asks_for_is_not_helped_with(
    queue: JobQueue, claim: Claim, redis_url: str, fields: dict[str, str]
) -> None:
    queue.runs.ask_help(claim, PARTS, there=(1,))
    with redis.Redis.from_url(redis_url) as client:
        if fields:
            client.hset(f"unmix:runs:{JOB}", mapping={**fields, "²": "there"})
        else:
            client.delete(f"unmix:runs:{JOB}")
        assert queue.runs.known(JOB) is None
        assert queue.runs.wanted(PARTS.kind) == []
        assert not client.exists("unmix:help")


def test_jobs_that_are_over_leave_the_list_when_somebody_looks(queue: JobQueue, claim: Claim, redis_url: str) -> None:
    for number in range(20):
        parts = replace(PARTS, job_id=song_hash_number(number + 100), kind="fast-1")
        other = claim_of(queue, parts.job_id)
        queue.runs.ask_help(other, parts, there=())
        queue.finish(other, JobStatus.CANCELLED, error_code=None, callbacks=0)
    queue.runs.ask_help(claim, PARTS, there=())
    assert queue.runs.wanted(PARTS.kind) == [PARTS]
    with redis.Redis.from_url(redis_url) as client:
        assert client.zcard("unmix:help") == 1


def test_a_job_that_a_foreign_producer_pushed_is_helped_with_too(queue: JobQueue, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("toWorker", JOB)
    claim = queue.claim(str(queue.take(block_seconds=1)), JOB, "worker-1")
    assert claim is not None
    assert claim.generation is None
    queue.runs.ask_help(claim, PARTS, there=())
    run = queue.runs.take(PARTS)
    assert isinstance(run, Run)
    assert queue.runs.renew(PARTS, run)


def test_a_run_that_was_made_to_its_end_does_not_look_lost(queue: JobQueue, claim: Claim) -> None:
    queue.runs.ask_help(claim, PARTS, there=())
    run = queue.runs.take(PARTS)
    assert isinstance(run, Run)
    queue.runs.note_there(PARTS, 0)
    assert queue.runs.renew(PARTS, run)
