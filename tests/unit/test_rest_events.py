"""`/apiv1/jobs/<job_id>/events`, `/apiv1/events?batch=` and `wait`: how jobs go, told as they go."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from rest_support import SONG, Rest
from support import eventually
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import utc_now
from unmix.names import hash_song
from unmix.outcome import Outcome
from unmix.queue import pulses
from unmix.queue.records import Claim
from unmix_rest import live
from unmix_rest.http.lanes import MAY_STAY
from unmix_rest.routes import events as events_route

JOB_ID = hash_song(SONG)
STEMS = {"vocals": b"voice"}


class Event:
    """One event of a stream."""

    def __init__(self, block: str) -> None:
        fields = dict(line.split(": ", 1) for line in block.strip().splitlines())
        self.kind, self.id = fields.get("event"), fields.get("id")
        self.data: dict[str, Any] = json.loads(fields.get("data", "{}"))


def stream(rest: Rest, path: str, last_id: str = "") -> Iterator[Event]:
    """Yield the events of a stream as they come; comments and what says when to come back are left out."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    answer = rest.client.open(path, headers=headers, buffered=False)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    blocks = (chunk.decode() if isinstance(chunk, bytes) else chunk for chunk in answer.response)
    assert next(blocks).startswith("retry: ")
    return (Event(block) for block in blocks if not block.startswith(":"))


def post(rest: Rest, **query: str) -> str:
    answer = rest.client.post("/apiv1/jobs", data=SONG, content_type="audio/mpeg", query_string=query)
    assert answer.status_code == 202
    return str(answer.json["hash"])


def claim(rest: Rest) -> Claim:
    element = rest.queue.take(block_seconds=1)
    assert element
    claimed = rest.queue.claim(element, element, "worker-1")
    assert claimed
    return claimed


def listed(job_id: str) -> JobRequest:
    return JobRequest(job_id, SeparationOptions("demo"), utc_now(), batches=("b",), generation="1")


def fail(rest: Rest, claimed: Claim) -> None:
    """End a job as a worker does that can do nothing with its song."""
    commit_failure(rest, claimed)
    rest.queue.finish(claimed, JobStatus.FAILED, error_code="poison", callbacks=0)


def commit_failure(rest: Rest, claimed: Claim) -> None:
    generation = claimed.generation or ""
    rest.ledger.commit(Outcome(JOB_ID, generation, JobStatus.FAILED, utc_now(), error_code="poison"))


def test_a_job_is_told_from_the_queue_to_its_end(rest: Rest) -> None:
    first = post(rest, format="wav")
    post(rest)
    told = stream(rest, f"/apiv1/jobs/{JOB_ID}/events")
    event = next(told)
    assert (event.kind, event.data["hash"], event.data["position"]) == ("queued", JOB_ID, 2)
    assert claim(rest).job_id == first
    event = next(told)
    assert (event.kind, event.data["position"]) == ("queued", 1)
    claimed = claim(rest)
    assert (next(told).kind, claimed.attempt) == ("started", 1)
    rest.queue.renew(claimed, progress=0.5)
    event = next(told)
    assert (event.kind, event.data["progress"]) == ("progress", 0.5)
    fail(rest, claimed)
    event = next(told)
    assert (event.kind, event.data["error_code"]) == ("failed", "poison")
    assert list(told) == []


@pytest.mark.parametrize("status", [JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_job_that_is_over_is_told_once(rest: Rest, status: JobStatus) -> None:
    post(rest)
    rest.finish(JOB_ID, STEMS if status is JobStatus.DONE else None, status=status, ran=None)
    path = f"/apiv1/jobs/{JOB_ID}/events"
    (event,) = stream(rest, path)
    assert event.kind == event.data["status"] == status.value
    assert event.data["progress"] == rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["progress"]
    answer = rest.client.get(path, headers={"Last-Event-ID": event.id or ""})
    assert (answer.status_code, answer.data) == (204, b"")  # with which browsers ask no more


def test_whoever_comes_back_is_not_told_what_it_knew_last(rest: Rest) -> None:
    post(rest)
    claimed = claim(rest)
    known = next(stream(rest, f"/apiv1/jobs/{JOB_ID}/events"))
    assert known.kind == "started"
    told = stream(rest, f"/apiv1/jobs/{JOB_ID}/events", last_id=known.id or "")
    with soon(lambda: rest.queue.renew(claimed, progress=0.25)):
        event = next(told)
    assert (event.kind, event.data["progress"]) == ("progress", 0.25)


def test_a_batch_is_told_whatever_comes_to_it(rest: Rest) -> None:
    first = post(rest, batch="b")
    told = stream(rest, "/apiv1/events?batch=b")
    assert next(told).data["hash"] == first
    post(rest, format="wav")  # of no batch
    second = post(rest, format="flac", batch="b")
    event = next(told)
    assert (event.data["hash"], event.kind) == (second, "queued")
    rest.finish(first, STEMS)
    seen = [next(told), next(told)]
    assert {(event.data["hash"], event.kind) for event in seen} == {(first, "done"), (second, "queued")}


def test_a_second_end_like_the_one_that_the_client_knew_is_told(rest: Rest) -> None:
    post(rest, batch="b")
    fail(rest, claim(rest))
    other = post(rest, batch="b", format="wav")
    told = stream(rest, "/apiv1/events?batch=b", last_id=f"{JOB_ID}-failed")
    assert next(told).data["hash"] == other
    rest.client.post(f"/apiv1/jobs/{other}/cancel")
    assert next(told).kind == "cancelled"
    rest.client.post(f"/apiv1/jobs/{JOB_ID}/retry")
    assert next(told).kind == "queued"
    fail(rest, claim(rest))
    assert "failed" in (event.kind for event in told)


def test_a_batch_that_goes_on_and_on_costs_no_more_than_its_newest_jobs(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulses, "MOST_OF_A_BATCH", 1)
    asked: list[set[str]] = []
    read = rest.queue.pulses.read

    def spied(job_ids: set[str]) -> dict[str, pulses.JobPulse]:
        asked.append(job_ids)
        return read(job_ids)

    monkeypatch.setattr(rest.queue.pulses, "read", spied)
    told = stream(rest, "/apiv1/events?batch=b")
    for format in ("mp3", "wav", "flac"):
        job_id = post(rest, format=format, batch="b")
        assert next(told).data["hash"] == job_id
    assert asked[-1] == {job_id}


def test_a_job_that_is_removed_ends_its_stream(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_route, "COMMENT_SECONDS", 0.1)
    post(rest)
    told = stream(rest, f"/apiv1/jobs/{JOB_ID}/events")
    next(told)
    rest.client.delete(f"/apiv1/jobs/{JOB_ID}")
    assert [event.kind for event in told] == ["removed"]


def test_the_end_of_an_earlier_submission_is_not_told(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_route, "COMMENT_SECONDS", 1)
    post(rest)
    fail(rest, claim(rest))
    again = rest.ledger.retry(JOB_ID)  # and whoever does it has not come to the queue yet
    assert again
    told = stream(rest, f"/apiv1/jobs/{JOB_ID}/events")
    with soon(lambda: rest.queue.submit(JOB_ID, again.generation)):
        assert next(told).kind == "queued"


def test_an_end_is_told_that_redis_knows_nothing_of(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_route, "COMMENT_SECONDS", 0.1)
    post(rest)
    claimed = claim(rest)
    told = stream(rest, f"/apiv1/jobs/{JOB_ID}/events")
    assert next(told).kind == "started"
    rest.queue.forget(JOB_ID)
    commit_failure(rest, claimed)
    assert [event.kind for event in told] == ["failed"]


def test_a_second_attempt_is_told_as_one(rest: Rest) -> None:
    post(rest)
    rest.queue.release(claim(rest))
    claim(rest)
    told = stream(rest, f"/apiv1/jobs/{JOB_ID}/events")
    assert next(told).kind == "started"
    rest.client.post(f"/apiv1/jobs/{JOB_ID}/cancel")
    assert next(told).kind == "cancelled"


def test_how_long_it_takes_is_told_once_that_is_known(rest: Rest) -> None:
    rest.queue.speeds.note("demo", song_seconds=10, work_seconds=5)
    post(rest)
    event = next(stream(rest, f"/apiv1/jobs/{JOB_ID}/events"))
    duration = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["duration_seconds"]
    assert event.data["eta_seconds"] == pytest.approx(0.5 * duration, abs=0.1)


def test_whether_it_was_done_when_that_was_told_is_counted(rest: Rest) -> None:
    def counted() -> bool:
        return "unmix_eta_ratio_count 1.0" in rest.client.get("/metrics").text

    rest.queue.speeds.note("demo", song_seconds=10, work_seconds=5)
    post(rest)
    told = stream(rest, f"/apiv1/jobs/{JOB_ID}/events")
    assert next(told).kind == "queued"
    assert not counted()
    rest.finish(JOB_ID, STEMS)
    assert "done" in (event.kind for event in told)
    eventually(counted, "it is counted")


def test_a_client_that_reads_slowly_is_told_the_newest_of_each_state(rest: Rest) -> None:
    post(rest, batch="b")
    other = post(rest, batch="b", format="wav")
    told, quick = (stream(rest, "/apiv1/events?batch=b") for _ in range(2))
    assert {next(told).data["hash"], next(told).data["hash"]} == {JOB_ID, other}
    claimed = claim(rest)
    for progress in (0.1, 0.2, 0.3):
        rest.queue.renew(claimed, progress=progress)
        assert progress in (event.data["progress"] for event in quick)
    fail(rest, claimed)
    assert "failed" in (event.kind for event in quick)
    rest.client.post(f"/apiv1/jobs/{JOB_ID}/retry")
    assert JOB_ID in (event.data["hash"] for event in quick if event.kind == "queued")
    events = [next(told) for _ in range(4)]
    of_job = [(event.kind, event.data["progress"]) for event in events if event.data["hash"] == JOB_ID]
    assert of_job == [("started", 0.3), ("failed", 0.0), ("queued", 0.0)]


def test_jobs_that_change_all_the_time_keep_no_others_from_being_told(rest: Rest) -> None:
    jobs = {f"{number:064x}" for number in range(250)}
    watch = live.Live(rest.queue).watch(jobs)
    told: list[str] = []
    for progress in (0.1, 0.2, 0.3):
        watch.tell({job_id: pulses.JobPulse(JobStatus.RUNNING, 1, progress) for job_id in jobs})
        told += watch.next(timeout_seconds=0) or {}
    assert set(told) == jobs


def test_jobs_that_are_over_are_hardly_asked_for_any_more(
    rest: Rest, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.02)
    jobs = [f"{number:064x}" for number in range(50)]
    for job_id in jobs:
        rest.queue.job_list.note(listed(job_id), Outcome(job_id, "1", JobStatus.FAILED, utc_now()))
    told = stream(rest, "/apiv1/events?batch=b")
    assert {next(told).data["hash"] for _ in jobs} == set(jobs)
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()

        def calls(command: str) -> int:
            return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))

        eventually(lambda: calls("zrevrange") > 10, "the batch was looked at again and again")  # with every fourth look
        assert calls("hmget") < 10 * len(jobs)
    rest.queue.job_list.note(replace(listed(jobs[7]), generation="2"), is_certain=True)
    rest.queue.submit(jobs[7], "2")
    event = next(told)
    assert (event.data["hash"], event.kind) == (jobs[7], "queued")


def test_there_is_a_limit_to_those_who_watch_and_they_are_told_before_anything_else(rest: Rest) -> None:
    post(rest)
    answer = rest.client.get(f"/apiv1/jobs/{JOB_ID}/events", environ_overrides={MAY_STAY: False})
    assert (answer.status_code, answer.json["code"]) == (503, "too_many_watchers")
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/apiv1/jobs/{'0' * 64}/events", 404, "not_found"),
        ("/apiv1/jobs/x/events", 404, "not_found"),
        ("/apiv1/events", 422, "missing_field"),
        ("/apiv1/events?batch=", 422, "missing_field"),
    ],
)
def test_there_is_no_stream_of_nothing(rest: Rest, path: str, status: int, code: str) -> None:
    answer = rest.client.get(path)
    assert (answer.status_code, answer.json["code"]) == (status, code)


@contextmanager
def soon(action: Callable[[], object], *, when: Callable[[], object] = lambda: True) -> Iterator[None]:
    """Do something while the caller waits in the block."""

    def act() -> None:
        eventually(when, "it can be done")
        action()

    timer = threading.Timer(0.3, act)
    timer.start()
    yield
    timer.join()


def ending(rest: Rest) -> AbstractContextManager[None]:
    """End the job once it waits."""
    return soon(lambda: rest.finish(JOB_ID, STEMS), when=lambda: rest.queue.views.position(JOB_ID))


@pytest.mark.parametrize("headers", [{}, {"Prefer": "respond-async, wait=60"}])
def test_a_submission_can_be_held_until_the_job_is_over(rest: Rest, headers: dict[str, str]) -> None:
    path = "/apiv1/jobs" if headers else "/apiv1/jobs?wait=60"
    with ending(rest):
        answer = rest.client.post(path, data=SONG, content_type="audio/mpeg", headers=headers)
    assert (answer.status_code, answer.json["status"]) == (202, "done")
    assert answer.json["warnings"] == []
    assert list(answer.json["stems"]) == ["vocals"]


def test_a_job_can_be_waited_for(rest: Rest) -> None:
    post(rest)
    with ending(rest):
        assert rest.client.get(f"/apiv1/jobs/{JOB_ID}?wait=60").json["status"] == "done"
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}?wait=60").json["status"] == "done"  # at once


def test_the_end_of_an_earlier_submission_is_not_what_was_waited_for(rest: Rest) -> None:
    post(rest)
    rest.finish(JOB_ID, status=JobStatus.FAILED, error_code="poison", error="it crashed", ran=None)
    request = rest.ledger.retry(JOB_ID)  # whoever does that has not told Redis yet
    assert request

    def go_on() -> None:
        rest.queue.submit(JOB_ID, request.generation)
        rest.finish(JOB_ID, STEMS)

    with soon(go_on):
        assert rest.client.get(f"/apiv1/jobs/{JOB_ID}?wait=60").json["status"] == "done"


def test_whoever_has_waited_long_enough_is_told_how_it_stands(rest: Rest) -> None:
    post(rest)
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}?wait=1").json["status"] == "queued"


def test_where_there_is_no_room_to_wait_the_answer_comes_at_once(rest: Rest) -> None:
    post(rest)
    with ending(rest):
        answer = rest.client.get(f"/apiv1/jobs/{JOB_ID}?wait=60", environ_overrides={MAY_STAY: False})
    assert answer.json["status"] == "queued"


@pytest.mark.parametrize("wait", ["x", "-1", "1.5", "", "9" * 20, "¹"])
def test_what_is_no_time_cannot_be_waited_for(rest: Rest, wait: str) -> None:
    answer = rest.client.post("/apiv1/jobs", data=SONG, content_type="audio/mpeg", query_string={"wait": wait})
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_field")
    assert rest.stored() == []


def test_watchers_are_told_though_there_was_no_thread_for_the_first(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(rest, batch="b")
    with monkeypatch.context() as full:

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            next(stream(rest, "/apiv1/events?batch=b"))
    assert next(stream(rest, "/apiv1/events?batch=b")).kind == "queued"


def test_watchers_are_told_again_when_redis_is_back(own_redis: Any, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    post(rest)
    told = stream(rest, f"/apiv1/jobs/{JOB_ID}/events")
    assert next(told).kind == "queued"
    own_redis.kill()
    own_redis.start()
    claim(rest)
    assert next(told).kind == "started"
