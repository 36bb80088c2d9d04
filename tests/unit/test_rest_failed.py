"""`GET /apiv1/failed` and `POST /apiv1/jobs/<job_id>/retry`: what went wrong, and once more."""

import json
import time
from typing import Any

import pytest

from rest_support import SONG, Answer, Rest
from unmix.job import Callback, JobStatus
from unmix.names import hash_song, song_object

JOB_ID = hash_song(SONG)
CALLBACK: dict[str, Any] = {"url": "http://93.184.215.14/done", "data": {"ticket": 1}}
FAILED: dict[str, Any] = {"status": JobStatus.FAILED, "error_code": "poison", "error": "it crashed", "ran": None}


def retry(rest: Rest, job_id: str = JOB_ID) -> Answer:
    return rest.client.post(f"/apiv1/jobs/{job_id}/retry")


def fail_jobs(rest: Rest) -> list[str]:
    """Let three jobs fail, and return them in the order of their failures."""
    jobs = []
    for format in ("mp3", "wav", "flac"):
        jobs.append(rest.post_form(SONG, format=format).json["hash"])
        rest.finish(jobs[-1], **{**FAILED, "error": f"no {format} today"})
        time.sleep(0.002)  # failures are told apart by the millisecond
    return jobs


def failed_jobs(rest: Rest, query: str = "") -> list[str]:
    return [failure["hash"] for failure in rest.client.get(f"/apiv1/failed{query}").json["failed"]]


def test_no_failure_is_an_empty_list(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice"})
    assert rest.client.get("/apiv1/failed").json == {"failed": [], "total": 0}


def test_a_failure_tells_when_and_why(rest: Rest) -> None:
    rest.post_form(SONG)
    outcome = rest.finish(JOB_ID, **FAILED)
    failure = {"hash": JOB_ID, "error_code": "poison", "error": "it crashed", "finished_at": outcome.finished_at}
    assert rest.client.get("/apiv1/failed").json == {"failed": [failure], "total": 1}


def test_the_last_failure_comes_first_and_pages_lose_none(rest: Rest) -> None:
    newest_first = fail_jobs(rest)[::-1]
    assert failed_jobs(rest) == newest_first
    assert failed_jobs(rest, "?limit=2") == newest_first[:2]
    assert failed_jobs(rest, "?offset=1&limit=1") == newest_first[1:2]
    assert failed_jobs(rest, "?offset=2") == newest_first[2:]
    assert failed_jobs(rest, "?offset=3") == []
    assert rest.client.get("/apiv1/failed?offset=1&limit=1").json["total"] == 3


def test_cancelled_jobs_are_no_failures(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.client.post(f"/apiv1/jobs/{JOB_ID}/cancel")
    assert failed_jobs(rest) == []


def test_a_failed_job_that_is_removed_or_sent_again_is_listed_no_more(rest: Rest) -> None:
    first, second, third = fail_jobs(rest)
    rest.client.delete(f"/apiv1/remove/{second}")
    assert failed_jobs(rest) == [third, first]
    rest.post_form(SONG)
    assert failed_jobs(rest) == [third]


def test_a_failed_job_is_tried_again_as_it_was_submitted(rest: Rest) -> None:
    job_id = rest.post_form(SONG, format="flac", callback=json.dumps(CALLBACK)).json["hash"]
    rest.finish(job_id, **FAILED)
    before = rest.ledger.request(job_id)
    answer = retry(rest, job_id)
    assert (answer.status_code, answer.json["hash"], answer.json["status"]) == (200, job_id, "queued")
    assert failed_jobs(rest) == []
    job = rest.client.get(f"/apiv1/jobs/{job_id}").json
    assert (job["status"], job["position"], job["attempt"], job["error_code"]) == ("queued", 1, 0, None)
    after = rest.ledger.request(job_id)
    assert before is not None
    assert after is not None
    assert (after.options, after.callbacks) == (before.options, (Callback(CALLBACK["url"], CALLBACK["data"]),))
    rest.finish(job_id, {"vocals": b"voice"})
    assert rest.client.get(f"/apiv1/track/{job_id}/vocals.flac").data == b"voice"
    assert rest.queue.outbox.due(limit=9) == [(job_id, 0)]


def test_a_cancelled_job_is_tried_again(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.client.post(f"/apiv1/jobs/{JOB_ID}/cancel")
    assert retry(rest).json["status"] == "queued"
    rest.finish(JOB_ID, {"vocals": b"voice"})
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["status"] == "done"


def test_to_try_again_what_waits_or_runs_changes_nothing(rest: Rest) -> None:
    rest.post_form(SONG)
    request = rest.ledger.request(JOB_ID)
    assert retry(rest).json["status"] == "queued"
    assert rest.client.get("/apiv1/queue").json["queue"] == [JOB_ID]
    claim = rest.queue.claim(str(rest.queue.take(block_seconds=1)), JOB_ID, "worker-1")
    assert claim is not None
    assert retry(rest).json["status"] == "running"
    rest.queue.renew(claim, progress=0.5)  # which it could not do with its token taken away
    assert rest.client.get("/apiv1/queue").json["queue"] == []
    assert rest.ledger.request(JOB_ID) == request


def test_a_done_job_is_not_tried_again(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice"})
    answer = retry(rest)
    assert (answer.status_code, answer.json["code"]) == (409, "not_retryable")
    assert rest.client.get(f"/apiv1/track/{JOB_ID}/vocals").data == b"voice"
    assert rest.client.get("/apiv1/queue").json["queue"] == []


@pytest.mark.parametrize("job_id", [JOB_ID, JOB_ID + ".0123abcd", "whatever"])
def test_an_unknown_job_is_404(rest: Rest, job_id: str) -> None:
    answer = retry(rest, job_id)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert rest.stored() == []


def test_a_job_whose_song_is_gone_is_not_tried_again_until_the_song_comes_back(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, **FAILED)
    rest.store.remove(song_object(JOB_ID))
    answer = retry(rest)
    assert (answer.status_code, answer.json["code"]) == (410, "song_gone")
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["status"] == "failed"
    assert failed_jobs(rest) == [JOB_ID]
    assert rest.post_form(SONG).json["status"] == "queued"
