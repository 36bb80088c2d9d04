"""`GET /apiv1/jobs`: what was ever submitted, as a client finds it again."""

from typing import Any

import pytest
import redis

from rest_support import SONG, Rest
from unmix.job import JobStatus
from unmix.names import hash_song

JOB_ID = hash_song(SONG)


def post(rest: Rest, **query: str) -> str:
    """Send the song as one more job, and return its id."""
    answer = rest.client.post("/apiv1/jobs", data=SONG, content_type="audio/mpeg", query_string=query)
    assert answer.status_code == 202
    return str(answer.json["hash"])


def listed(rest: Rest, **query: Any) -> list[str]:
    """The ids of the jobs on all pages."""
    found: list[str] = []
    answer = rest.client.get("/apiv1/jobs", query_string=query).json
    found += [job["hash"] for job in answer["jobs"]]
    while answer["next"]:
        answer = rest.client.get(answer["next"]).json
        found += [job["hash"] for job in answer["jobs"]]
    return found


def test_a_job_is_listed_from_its_submission_to_its_removal(rest: Rest) -> None:
    assert listed(rest) == []
    post(rest, name="A song", labels="demo", batch="b1")
    (job,) = rest.client.get("/apiv1/jobs").json["jobs"]
    view = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert job.items() <= view.items()
    assert (job["status"], job["name"], job["labels"], job["batches"]) == ("queued", "A song", ["demo"], ["b1"])
    rest.finish(JOB_ID, {"vocals": b"voice"})
    (job,) = rest.client.get("/apiv1/jobs?status=done").json["jobs"]
    assert (job["status"], job["progress"]) == ("done", 1.0)
    rest.client.delete(f"/apiv1/jobs/{JOB_ID}")
    assert listed(rest) == listed(rest, label="demo") == listed(rest, status="done") == []


def test_jobs_of_old_clients_are_listed_too(rest: Rest) -> None:
    rest.post_json(SONG)
    assert listed(rest) == [JOB_ID]


def test_jobs_are_found_by_status_label_batch_and_name(rest: Rest) -> None:
    first = post(rest, labels="a,b", batch="x", name="One")
    second = post(rest, format="wav", labels="b", batch="y", name="Another One")
    third = post(rest, format="flac")
    rest.client.post(f"/apiv1/jobs/{third}/cancel")
    assert set(listed(rest)) == {first, second, third}
    assert listed(rest, status="cancelled") == [third]
    assert set(listed(rest, status="queued")) == set(listed(rest, label="b")) == set(listed(rest, name="one"))
    assert listed(rest, label="b", batch="x") == listed(rest, label="a") == [first]
    assert listed(rest, name="another", status="queued") == [second]
    assert listed(rest, label="c") == listed(rest, status="failed") == []


def test_what_a_second_submission_adds_is_found_at_once(rest: Rest) -> None:
    post(rest, batch="x")
    rest.finish(JOB_ID, {"vocals": b"voice"})
    post(rest, batch="y", labels="new")
    assert listed(rest, batch="x", status="done") == listed(rest, batch="y") == listed(rest, label="new") == [JOB_ID]


def test_a_job_that_is_tried_again_is_not_failed_any_more(rest: Rest) -> None:
    post(rest)
    rest.finish(JOB_ID, status=JobStatus.FAILED, error_code="poison", error="it crashed", ran=None)
    (job,) = rest.client.get("/apiv1/jobs?status=failed").json["jobs"]
    assert job["error_code"] == "poison"
    rest.client.post(f"/apiv1/jobs/{JOB_ID}/retry")
    assert listed(rest, status="failed") == []
    assert listed(rest, status="queued") == [JOB_ID]


def test_a_push_that_was_cancelled_is_listed(rest: Rest, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as producer:
        producer.lpush("toWorker", JOB_ID)
    rest.client.post(f"/apiv1/jobs/{JOB_ID}/cancel")
    assert listed(rest, status="cancelled") == [JOB_ID]


def test_pages_are_as_long_as_asked_for_and_each_names_the_next(rest: Rest) -> None:
    jobs = {post(rest, format=format, bits=bits) for format, bits in (("wav", "16"), ("wav", "24"), ("flac", "16"))}
    answer = rest.client.get("/apiv1/jobs?limit=2&name=").json
    assert len(answer["jobs"]) == 2
    assert answer["next"].startswith("/apiv1/jobs?limit=2&")
    assert set(listed(rest, limit=1)) == set(listed(rest, limit=9999)) == jobs


def test_a_filter_of_any_characters_is_kept_from_page_to_page(rest: Rest) -> None:
    label = "ü&after=x 💃"
    jobs = {post(rest, format=format, labels=label) for format in ("wav", "flac")}
    assert set(listed(rest, limit=1, label=label)) == jobs


@pytest.mark.parametrize("query", ["status=lost", "limit=0", "limit=x", "after=x", "after=1-" + "0" * 63])
def test_what_cannot_be_asked_is_refused(rest: Rest, query: str) -> None:
    answer = rest.client.get(f"/apiv1/jobs?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_field")
