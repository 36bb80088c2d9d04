"""Streams of events behind a real port: who is told, how many, and how they end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
import requests

from rest_process import SONG, RestProcess
from support import PATIENCE_SECONDS, eventually, song_hash_number
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome

#: With this the system keeps little of what a client does not read, so that REST sees it soon.
SMALL_BUFFERS = """
import socket, waitress.adjustments
waitress.adjustments.Adjustments.socket_options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)]
"""


def post(rest: RestProcess, **query: str) -> str:
    answer = requests.post(f"{rest.url}/apiv1/jobs", data=SONG, params=query, timeout=PATIENCE_SECONDS)
    assert answer.status_code == 202
    return str(answer.json()["hash"])


@contextmanager
def watching(rest: RestProcess, path: str) -> Iterator[Iterator[str]]:
    """Open a stream, and yield the kinds of its events."""
    with requests.get(rest.url + path, stream=True, timeout=PATIENCE_SECONDS) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines(chunk_size=1, decode_unicode=True)
        yield (line.removeprefix("event: ") for line in lines if line.startswith("event: "))


def has_room(rest: RestProcess) -> bool:
    """Whether one more may watch."""
    with requests.get(f"{rest.url}/apiv1/events?batch=b", stream=True, timeout=PATIENCE_SECONDS) as answer:
        return answer.status_code == 200


def test_events_come_as_they_happen_and_end_with_the_job(start: Callable[..., RestProcess]) -> None:
    rest = start()
    job_id = post(rest)
    with watching(rest, f"/apiv1/jobs/{job_id}/events") as kinds:
        assert next(kinds) == "queued"
        claim = rest.queue.claim(rest.queue.take(block_seconds=1) or "", job_id, "worker-1")
        assert claim
        assert next(kinds) == "started"
        Ledger(rest.store).commit(Outcome(job_id, claim.generation or "", JobStatus.FAILED, utc_now()))
        rest.queue.finish(claim, JobStatus.FAILED, error_code="poison", callbacks=0)
        assert list(kinds) == ["failed"]


def test_those_who_watch_keep_nobody_from_being_answered(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_REST_THREADS="2", UNMIX_REST_STREAMS="6")
    job_id = post(rest)
    path = f"/apiv1/jobs/{job_id}/events"
    streams = [requests.get(rest.url + path, stream=True, timeout=PATIENCE_SECONDS) for _ in range(6)]
    assert {stream.status_code for stream in streams} == {200}
    refused = requests.get(rest.url + path, timeout=PATIENCE_SECONDS)
    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_watchers")
    waited = requests.get(f"{rest.url}/apiv1/jobs/{job_id}?wait=60", timeout=PATIENCE_SECONDS)
    assert waited.json()["status"] == "queued"
    assert post(rest, wait="60", format="wav") != job_id
    assert requests.get(f"{rest.url}/healthz", timeout=PATIENCE_SECONDS).ok
    assert requests.post(f"{rest.url}/apiv1/jobs/{job_id}/cancel", timeout=PATIENCE_SECONDS).ok
    for stream in streams:
        assert b"event: cancelled" in stream.content
    with watching(rest, "/apiv1/events?batch=none"):
        pass  # there is room again


def test_a_client_that_goes_makes_room(start: Callable[..., RestProcess]) -> None:
    hurry = "import unmix_rest.routes.events as events; events.COMMENT_SECONDS = 0.1"
    rest = start(patch=hurry, UNMIX_REST_STREAMS="1")
    with watching(rest, "/apiv1/events?batch=b"):
        assert not has_room(rest)
    eventually(lambda: has_room(rest), "there is room again")


def test_a_client_that_sleeps_is_told_how_things_stand_when_it_reads_on(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=SMALL_BUFFERS)
    jobs = [song_hash_number(number) for number in range(100)]
    for job_id in jobs:
        rest.queue.job_list.note(JobRequest(job_id, SeparationOptions("demo"), utc_now(), batches=("b",)))
        rest.queue.submit(job_id, "1")
    claims = [rest.queue.claim(rest.queue.take(block_seconds=1) or "", job_id, "worker-1") for job_id in jobs]
    rounds = 20
    with rest.connect() as sleeper, watching(rest, "/apiv1/events?batch=b") as kinds:
        sleeper.sendall(b"GET /apiv1/events?batch=b HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert [next(kinds) for _ in jobs] == ["started"] * len(jobs)
        for step in range(rounds):
            for claim in claims:
                assert claim
                rest.queue.renew(claim, progress=(step + 1) / rounds)
            assert [next(kinds) for _ in jobs] == ["progress"] * len(jobs)
        for claim in claims:
            assert claim
            rest.queue.finish(claim, JobStatus.FAILED, error_code="poison", callbacks=0)
        assert [next(kinds) for _ in jobs] == ["failed"] * len(jobs)
        received = b""
        while received.count(b"event: failed") < len(jobs):
            received += (more := sleeper.recv(1 << 16))
            assert more, "the stream has ended"
    assert received.count(b"event: started") == len(jobs)
    assert received.count(b"event: progress") < rounds * len(jobs) / 2


@pytest.mark.parametrize("path", ["/events", "?wait=60"])
def test_who_watches_or_waits_does_not_hold_up_the_end(
    start: Callable[..., RestProcess], redis_url: str, path: str
) -> None:
    rest = start()
    url = f"{rest.url}/apiv1/jobs/{post(rest)}{path}"
    answers: list[requests.Response] = []
    watcher = threading.Thread(target=lambda: answers.append(requests.get(url, timeout=PATIENCE_SECONDS)))
    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        watcher.start()
        eventually(lambda: client.info("commandstats").get("cmdstat_hmget", {}).get("calls", 0) > 9, "Redis is asked")
    rest.ask_to_end()
    watcher.join(PATIENCE_SECONDS)
    assert rest.process.wait(timeout=PATIENCE_SECONDS) == 0
    assert [answer.status_code for answer in answers] == [200]
    assert "cuts off" not in rest.log.read_text()
