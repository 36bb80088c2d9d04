"""`POST /apiv1/jobs/<job_id>/cancel`: of jobs in every place where a job can be."""

import json
from pathlib import Path

import pytest
import redis

from rest_support import SONG, Answer, Rest
from support import RedisServer, song_hash_number
from unmix.errors import LeaseLostError, QueueError
from unmix.job import JobStatus
from unmix.ledger.ledger import Ledger, utc_now
from unmix.names import hash_song, song_object
from unmix.outcome import Outcome
from unmix.queue.records import Claim

JOB_ID = hash_song(SONG)


def cancel(rest: Rest, job_id: str = JOB_ID) -> Answer:
    return rest.client.post(f"/apiv1/jobs/{job_id}/cancel")


def claim(rest: Rest) -> Claim:
    """Take the next job as a worker would."""
    element = rest.queue.take(block_seconds=1)
    assert element is not None
    claim = rest.queue.claim(element, element, "worker-1")
    assert claim is not None
    return claim


def assert_cancelled(rest: Rest, answer: Answer, job_id: str = JOB_ID) -> None:
    """The answer says so, the job says so, and no key has it any more."""
    assert (answer.status_code, answer.json["hash"], answer.json["status"]) == (200, job_id, "cancelled")
    job = rest.client.get(f"/apiv1/jobs/{job_id}").json
    assert (job["status"], job["error_code"], job["stems"], job["position"]) == ("cancelled", "cancelled", {}, None)
    snapshot = rest.queue.views.snapshot()
    assert job_id not in snapshot.present | snapshot.open | snapshot.failed


def test_a_waiting_job_is_cancelled(rest: Rest) -> None:
    other = song_hash_number(1)
    rest.post_form(SONG)
    rest.queue.submit(other, "g")
    assert_cancelled(rest, cancel(rest))
    assert rest.client.get("/apiv1/queue").json["queue"] == [other]


def test_a_running_job_is_taken_from_its_worker(rest: Rest) -> None:
    rest.post_form(SONG)
    lost = claim(rest)
    rest.queue.renew(lost, progress=0.5)
    assert_cancelled(rest, cancel(rest))
    assert rest.client.get("/apiv1/queue").json["running"] == []
    with pytest.raises(LeaseLostError):
        rest.queue.renew(lost, progress=0.6)
    with pytest.raises(LeaseLostError):
        rest.queue.finish(lost, JobStatus.DONE, error_code=None, callbacks=0)


def test_a_job_that_is_removed_at_that_moment_is_not_there(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    rest.post_form(SONG)
    commit = Ledger.commit

    def removed_meanwhile(ledger: Ledger, outcome: Outcome) -> Outcome:
        rest.ledger.removal.remove_job(JOB_ID)
        return commit(ledger, outcome)

    monkeypatch.setattr(Ledger, "commit", removed_meanwhile)
    assert cancel(rest).status_code == 404


def test_a_job_that_was_removed_is_not_there_although_redis_remembers_its_end(rest: Rest) -> None:
    rest.post_form(SONG)
    cancel(rest)
    rest.ledger.removal.remove_job(JOB_ID)
    assert rest.queue.views.record(JOB_ID) is not None
    assert cancel(rest).status_code == 404
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").status_code == 404
    assert rest.ledger.request(JOB_ID) is None


def test_a_worker_that_comes_too_late_finds_the_job_cancelled(rest: Rest) -> None:
    rest.post_form(SONG)
    lost = claim(rest)
    request = rest.ledger.request(JOB_ID)
    assert request is not None
    cancel(rest)
    late = Outcome(JOB_ID, request.generation, JobStatus.DONE, utc_now(), token=lost.token)
    assert rest.ledger.commit(late).status is JobStatus.CANCELLED


def test_a_job_that_waits_for_another_try_is_cancelled(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.queue.fail(claim(rest), error_code="store_unavailable")
    assert_cancelled(rest, cancel(rest))


def test_a_job_that_is_taken_and_not_claimed_yet_is_cancelled(rest: Rest) -> None:
    rest.post_form(SONG)
    element = rest.queue.take(block_seconds=1)
    assert_cancelled(rest, cancel(rest))
    assert rest.queue.claim(str(element), JOB_ID, "worker-1") is None


def test_an_owed_job_that_redis_lost_is_cancelled(rest: Rest, redis_url: str) -> None:
    rest.post_form(SONG)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert_cancelled(rest, cancel(rest))


def test_to_cancel_twice_is_no_error(rest: Rest) -> None:
    rest.post_form(SONG)
    cancel(rest)
    assert_cancelled(rest, cancel(rest))


@pytest.mark.parametrize(
    ("stems", "end"),
    [({"vocals": b"voice"}, {}), ({}, {"status": JobStatus.FAILED, "error_code": "poison", "ran": None})],
    ids=["done", "failed"],
)
def test_a_job_that_is_over_is_not_cancelled(rest: Rest, stems: dict[str, bytes], end: dict[str, object]) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, stems, **end)
    before = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    answer = cancel(rest)
    assert (answer.status_code, answer.json["code"]) == (409, "job_over")
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json == before


@pytest.mark.parametrize("job_id", [JOB_ID, JOB_ID + ".0123abcd", "whatever", JOB_ID.upper()])
def test_an_unknown_job_is_404(rest: Rest, job_id: str) -> None:
    answer = cancel(rest, job_id)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert rest.stored() == []


def test_a_song_that_another_producer_pushed_is_cancelled_and_never_separated(rest: Rest, redis_url: str) -> None:
    rest.store.put(song_object(JOB_ID), SONG)
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("toWorker", JOB_ID)
        assert_cancelled(rest, cancel(rest))
        client.lpush("toWorker", JOB_ID)  # they push it once more
    assert rest.queue.claim(str(rest.queue.take(block_seconds=1)), JOB_ID, "worker-1") is None


def test_a_cancelled_song_that_is_sent_again_is_separated(rest: Rest) -> None:
    rest.post_form(SONG)
    lost = claim(rest)
    cancel(rest)
    assert rest.post_form(SONG).json["status"] == "queued"
    assert rest.client.get("/apiv1/queue").json["queue"] == [JOB_ID]
    rest.finish(JOB_ID, {"vocals": b"voice"})
    with pytest.raises(LeaseLostError):
        rest.queue.renew(lost, progress=0.5)
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["status"] == "done"
    assert rest.client.get(f"/apiv1/track/{JOB_ID}/vocals").data == b"voice"


def test_the_same_song_with_other_options_goes_on(rest: Rest) -> None:
    rest.post_form(SONG)
    other = rest.post_form(SONG, format="wav").json["hash"]
    cancel(rest)
    assert rest.client.get("/apiv1/queue").json["queue"] == [other]
    rest.finish(other, {"vocals": b"voice"})
    assert rest.client.get(f"/apiv1/track/{other}/vocals").data == b"voice"


def test_the_callbacks_of_a_cancelled_job_are_due_once(rest: Rest) -> None:
    for number in range(2):
        callback = {"url": f"http://93.184.215.14/{number}"}
        rest.post_form(SONG, callback=json.dumps(callback))
    assert rest.queue.outbox.due(limit=9) == []
    cancel(rest)
    assert sorted(rest.queue.outbox.due(limit=9)) == [(JOB_ID, 0), (JOB_ID, 1)]
    rest.queue.outbox.end(JOB_ID, 0)
    cancel(rest)
    assert rest.queue.outbox.due(limit=9) == [(JOB_ID, 1)]


def test_a_job_goes_on_if_redis_was_away_when_it_was_to_be_cancelled(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    rest.post_form(SONG)
    own_redis.kill()
    assert cancel(rest).status_code == 503
    own_redis.start()
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["status"] == "queued"
    rest.finish(JOB_ID, {"vocals": b"voice"})
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["status"] == "done"


def test_a_cancel_that_broke_off_half_way_counts_and_can_be_repeated(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest.post_form(SONG)
    with monkeypatch.context() as patch:

        def lose_redis(*_: object, **__: object) -> bool:
            raise QueueError("Redis went at this very moment")

        patch.setattr(rest.queue, "settle", lose_redis)
        assert cancel(rest).status_code == 503
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["status"] == "cancelled"
    assert_cancelled(rest, cancel(rest))
