"""The list of jobs on a real Redis server: what is found on it, in which order, and what has to make way."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from support import song_hash_number
from unmix.errors import InputError
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.outcome import Outcome
from unmix.queue import job_list
from unmix.queue.job_list import JobFilter
from unmix.queue.job_queue import JobQueue

NUMBERS = {song_hash_number(number): number for number in range(10)}


def request(number: int, *, at: int | None = None, **fields: Any) -> JobRequest:
    """A request of job `number`, submitted as many seconds after noon."""
    second = number if at is None else at
    submitted_at = f"2026-01-01T12:{second // 60:02}:{second % 60:02}.000+00:00"
    return JobRequest(song_hash_number(number), SeparationOptions("demo"), submitted_at, generation="g1", **fields)


def outcome(of: JobRequest, status: JobStatus, error_code: str | None = None) -> Outcome:
    return Outcome(of.job_id, of.generation, status, of.submitted_at, error_code=error_code)


def numbers(queue: JobQueue, **wanted: Any) -> list[int]:
    """The numbers of the jobs that are found, all pages of two put together."""
    found: list[int] = []
    after = None
    while True:
        jobs, after = queue.job_list.page(JobFilter(**wanted), limit=2, after=after)
        found += [NUMBERS[job.hash] for job in jobs]
        if after is None:
            return found


def keys_of_the_list(redis_url: str) -> set[str]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        return {str(key) for key in client.scan_iter("unmix:jobs*")}


def test_the_newest_come_first_page_by_page(queue: JobQueue) -> None:
    for number in (3, 1, 5, 2, 4):
        queue.job_list.note(request(number))
    assert numbers(queue) == [5, 4, 3, 2, 1]
    jobs, after = queue.job_list.page(JobFilter(), limit=5)
    assert (len(jobs), after) == (5, None)


def test_jobs_of_the_same_moment_are_each_found_once(queue: JobQueue) -> None:
    for number in range(7):
        queue.job_list.note(request(number, at=0))
    assert sorted(numbers(queue)) == list(range(7))


def test_a_page_goes_on_where_the_last_one_ended_whatever_comes_and_goes(queue: JobQueue) -> None:
    for number in range(6):
        queue.job_list.note(request(number))
    first, after = queue.job_list.page(JobFilter(), limit=3)
    queue.job_list.note(request(9))
    queue.job_list.drop(first[-1].hash)
    then, _ = queue.job_list.page(JobFilter(), limit=3, after=after)
    assert [NUMBERS[job.hash] for job in (*first, *then)] == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("after", ["", "0", f"1-{'0' * 63}", f"x-{'0' * 64}", f"1-{'0' * 64}.1", "1-" + "é" * 64])
def test_what_no_answer_said_is_no_place_to_go_on(queue: JobQueue, after: str) -> None:
    with pytest.raises(InputError, match="after"):
        queue.job_list.page(JobFilter(), limit=1, after=after)


def test_jobs_are_found_by_all_that_is_asked_for(queue: JobQueue) -> None:
    queue.job_list.note(request(1, labels=("a", "b"), batches=("x",), name="Straße"))
    queue.job_list.note(request(2, labels=("b",), batches=("x", "y"), name="a song"))
    queue.job_list.note(request(3, labels=("a",)))
    queue.job_list.note(request(3, labels=("a",)), outcome(request(3), JobStatus.FAILED, "poison"))
    assert numbers(queue, label="a") == [3, 1]
    assert numbers(queue, batch="x") == [2, 1]
    assert numbers(queue, batch="x", label="a") == [1]
    assert numbers(queue, name="STRASSE") == [1]
    assert numbers(queue, status=JobStatus.FAILED, label="a") == [3]
    assert numbers(queue, status=JobStatus.DONE) == numbers(queue, label="") == numbers(queue, batch="y z") == []


@pytest.mark.parametrize("label", ["status:done", "💃🏽", 'a"\\b', "a\x00b\n", "batch:x", "ü" * 100])
def test_any_label_is_found_and_nothing_else_by_it(queue: JobQueue, label: str) -> None:
    queue.job_list.note(request(1, labels=(label,), batches=("x",)))
    assert numbers(queue, label=label) == [1]
    assert numbers(queue, batch=label) == []
    (job,), _ = queue.job_list.page(JobFilter(label=label), limit=1)
    assert job.labels == (label,)


def test_an_open_job_tells_how_it_goes(queue: JobQueue) -> None:
    of = request(1)
    queue.job_list.note(of)
    queue.submit(of.job_id, of.generation)
    assert numbers(queue, status=JobStatus.QUEUED) == [1]
    claim = queue.claim(queue.take(block_seconds=1) or "", of.job_id, "w1")
    assert claim
    queue.renew(claim, progress=0.5)
    (job,), _ = queue.job_list.page(JobFilter(status=JobStatus.RUNNING), limit=9)
    assert (job.status, job.progress) == (JobStatus.RUNNING, 0.5)
    assert numbers(queue, status=JobStatus.QUEUED) == []
    queue.finish(claim, JobStatus.FAILED, error_code="poison", callbacks=0)
    (job,), _ = queue.job_list.page(JobFilter(status=JobStatus.FAILED), limit=9)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "poison")
    assert numbers(queue, status=JobStatus.RUNNING) == []


def test_a_job_that_is_submitted_again_is_open_and_the_newest(queue: JobQueue) -> None:
    queue.job_list.note(request(1), outcome(request(1), JobStatus.FAILED))
    queue.job_list.note(request(2))
    queue.job_list.note(replace(request(1, at=3), generation="g2"))
    assert numbers(queue) == [1, 2]
    assert numbers(queue, status=JobStatus.FAILED) == []
    queue.job_list.note(request(1), outcome(request(1), JobStatus.FAILED))  # late
    assert numbers(queue, status=JobStatus.FAILED) == []


def test_the_end_of_an_earlier_submission_is_not_that_of_the_next(queue: JobQueue) -> None:
    queue.submit(song_hash_number(1), "g0")
    claim = queue.claim(queue.take(block_seconds=1) or "", song_hash_number(1), "w1")
    assert claim
    queue.job_list.note(request(1))
    queue.finish(claim, JobStatus.DONE, error_code=None, callbacks=0)
    assert numbers(queue, status=JobStatus.DONE) == []


def test_what_is_added_to_a_job_leaves_its_end_alone(queue: JobQueue) -> None:
    queue.job_list.note(request(1, labels=("a",)), outcome(request(1), JobStatus.DONE))
    queue.job_list.note(request(1, labels=("b",)))
    assert numbers(queue, status=JobStatus.DONE) == numbers(queue, label="b") == [1]
    assert numbers(queue, label="a") == []


def test_the_oldest_make_way_with_all_that_they_were_found_by(
    queue: JobQueue, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "MOST_JOBS", 2)
    for number in range(4):
        of = request(number, labels=(f"l{number}",), batches=("b",))
        queue.job_list.note(of, outcome(of, JobStatus.DONE))
    assert numbers(queue) == numbers(queue, batch="b") == numbers(queue, status=JobStatus.DONE) == [3, 2]
    assert numbers(queue, label="l0") == []
    assert queue.job_list.since_ms == 1000 * request(1).submitted_at_seconds
    queue.job_list.note(request(0))  # older than all that there is room for
    assert numbers(queue) == [3, 2]
    for number in (2, 3):
        queue.job_list.drop(song_hash_number(number))
    assert keys_of_the_list(redis_url) == {"unmix:jobs:bytes", "unmix:jobs:since"}


def test_long_names_take_no_more_room_than_there_is(
    queue: JobQueue, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "MOST_BYTES", 5000)
    for number in range(9):
        queue.job_list.note(request(number, name="🎵" * 500))
    assert numbers(queue) == [8, 7]
    with redis.Redis.from_url(redis_url) as client:
        assert int(client.get("unmix:jobs:bytes") or 0) == sum(map(len, client.hvals("unmix:jobs:cards")))
    queue.job_list.note(request(9, name="🎵" * 5000))
    assert numbers(queue) == [9]


def test_many_labels_take_no_more_room_than_there_is(
    queue: JobQueue, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "MOST_BYTES", 5000)
    for number in range(9):
        labels = tuple(f"{number}{letter}" for letter in "abcdefgh")
        queue.job_list.note(request(number, labels=labels), outcome(request(number), JobStatus.DONE))
    found = numbers(queue)
    assert 1 < len(found) < 5
    terms = {f"label:{number}{letter}" for number in found for letter in "abcdefgh"} | {"status:done"}
    assert keys_of_the_list(redis_url) - {"unmix:jobs:since"} == {
        *(f"unmix:jobs{each}" for each in ("", ":cards", ":ends", ":bytes")),
        *(f"unmix:jobs:by:{term}" for term in terms),
    }
    for number in found:
        queue.job_list.drop(song_hash_number(number))
    with redis.Redis.from_url(redis_url) as client:
        assert int(client.get("unmix:jobs:bytes") or 0) == 0


def test_a_search_for_what_is_rare_ends_and_goes_on(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_list, "MOST_EXAMINED", 3)
    for number in range(10):
        queue.job_list.note(request(number, name="rare" if number == 1 else None))
    jobs, after = queue.job_list.page(JobFilter(name="rare"), limit=2)
    assert (jobs, after is None) == ([], False)
    assert numbers(queue, name="rare") == [1]


@pytest.mark.parametrize("remove", [JobQueue.forget, lambda queue, job_id: queue.job_list.drop(job_id)])
def test_a_removed_job_is_on_the_list_no_more(queue: JobQueue, remove: Callable[[JobQueue, str], None]) -> None:
    queue.job_list.note(request(1, labels=("a",)), outcome(request(1), JobStatus.DONE))
    remove(queue, song_hash_number(1))
    assert numbers(queue) == numbers(queue, label="a") == numbers(queue, status=JobStatus.DONE) == []
    assert queue.job_list.members() == {}


def test_each_tenant_finds_its_own_and_those_who_see_all_find_them_in_one_order(queue: JobQueue) -> None:
    for number in range(8):
        tenant = ("main", "choir", "band")[number % 3]
        queue.job_list.note(request(number, at=number // 2, tenant=tenant, labels=("a",), batches=("x",)))
    queue.job_list.note(request(4, at=2, tenant="choir"), outcome(request(4), JobStatus.DONE))
    assert numbers(queue, tenant="choir") == [7, 4, 1]
    assert numbers(queue, tenant="choir", label="a") == numbers(queue, tenant="choir", batch="x") == [7, 1]
    assert numbers(queue, tenant="choir", status=JobStatus.DONE) == [4]
    assert numbers(queue, tenant="choir", status=JobStatus.QUEUED) == [7, 1]
    assert numbers(queue, tenant="main", status=JobStatus.QUEUED) == [6, 3, 0]
    assert numbers(queue, tenant="nobody") == numbers(queue, tenant="nobody", label="a") == []
    by_time = sorted(range(8), key=lambda number: (number // 2, song_hash_number(number)), reverse=True)
    assert numbers(queue) == by_time
    assert numbers(queue, label="a") == [number for number in by_time if number != 4]
    in_batch = queue.pulses.of_batch("x", queue.job_list.tenants())
    assert {NUMBERS[job_id] for job_id in in_batch} == {0, 1, 2, 3, 5, 6, 7}
    assert {NUMBERS[job_id] for job_id in queue.pulses.of_batch("x", ["band"])} == {2, 5}
    assert queue.job_list.members() == {job_id: number == 4 for job_id, number in NUMBERS.items() if number < 8}


def test_the_oldest_of_all_tenants_make_way(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_list, "MOST_JOBS", 3)
    for number, tenant in enumerate(("choir", "main", "band", "main", "choir", "choir")):
        queue.job_list.note(request(number, tenant=tenant))
    assert numbers(queue) == [5, 4, 3]
    assert queue.job_list.tenants() == ["main", "choir"]


def test_nothing_is_left_of_a_tenant_without_jobs(queue: JobQueue, redis_url: str) -> None:
    before = keys_of_the_list(redis_url)
    for number in (1, 2):
        queue.job_list.note(request(number, tenant="choir", labels=("a",), batches=("x",)))
    queue.job_list.note(request(2, tenant="choir"), outcome(request(2), JobStatus.FAILED))
    for number in (1, 2):
        queue.job_list.drop(song_hash_number(number))
    assert keys_of_the_list(redis_url) - before == {"unmix:jobs:bytes"}


def test_a_job_of_which_somebody_else_is_found_to_be_the_owner_changes_lists(queue: JobQueue) -> None:
    queue.job_list.note(request(1, tenant="", labels=("a",)))
    queue.job_list.note(replace(request(1, tenant="choir", labels=("b",)), generation="g2"), is_certain=True)
    assert numbers(queue) == numbers(queue, tenant="choir", label="b") == [1]
    assert numbers(queue, tenant="") == numbers(queue, tenant="", label="a") == []
    assert queue.job_list.tenants() == ["main", "choir"]
