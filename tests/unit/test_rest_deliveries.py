"""The janitor's part in callbacks: when they are delivered, how often, and what is noted of it."""

from pathlib import Path
from typing import Any

import pytest
import redis

from delivery_support import JOB_ID, STEMS, deliver_all, deliver_until, post, quick_rest
from rest_support import Rest
from support import CallbackServer, RedisServer, song_hash_number
from unmix.errors import StoreError
from unmix.janitor.deliveries import DELIVERY_THREADS
from unmix.job import JobRequest, JobStatus
from unmix.ledger.ledger import Ledger


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    return quick_rest(tmp_path, redis_url)


#: What is told of a delivery that arrived, but for its time and its tries.
ARRIVED = {
    "delivered": True,
    "at": "20",
    "error": None,
    "http_status": 204,
    "state": "delivered",
    "next_try_at": None,
}


def without_times(deliveries: dict[str, Any]) -> dict[str, Any]:
    return {index: {**delivery, "at": delivery["at"][:2]} for index, delivery in deliveries.items()}


def test_a_delivery_that_breaks_makes_way_for_the_others(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(DELIVERY_THREADS * 5):
        rest.queue.outbox.owe(song_hash_number(number), 0)
    request = Ledger.request

    def break_over_others(ledger: Ledger, job_id: str) -> JobRequest | None:
        if job_id != JOB_ID:
            raise KeyError("nobody foresaw this")
        return request(ledger, job_id)

    monkeypatch.setattr(Ledger, "request", break_over_others)
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        deliver_until(rest, lambda: bool(receiver.bodies), callback_retry_seconds=60)


def test_an_arrived_callback_is_noted_in_the_job(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver, ticket=1)
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest)
        end = {"hash": JOB_ID, "songhash": JOB_ID, "status": "done", "tracks": ["drums", "vocals"]}
        assert receiver.bodies == [{"ticket": 1, **end}]
    assert without_times(noted) == {"0": {**ARRIVED, "tries": 1}}


def test_the_callbacks_of_a_job_are_noted_each_by_its_number(rest: Rest) -> None:
    with CallbackServer() as first, CallbackServer(status=500) as second:
        post(rest, first)
        post(rest, second)
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest)
    assert {index: (each["delivered"], each["tries"]) for index, each in noted.items()} == {
        "0": (True, 1),
        "1": (False, 3),
    }


def test_a_receiver_that_fails_is_called_again_under_the_same_id_until_it_takes_the_callback(rest: Rest) -> None:
    with CallbackServer(status=500) as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        deliver_until(rest, lambda: rest.queue.outbox.tries(JOB_ID, 0) >= 2, callback_max_attempts=99)
        receiver.status = 204
        noted = deliver_all(rest)
        tries = len(receiver.bodies)
        assert tries >= 3
        assert all(body == receiver.bodies[0] for body in receiver.bodies)
        assert len(set(receiver.delivery_ids)) == 1
    assert without_times(noted) == {"0": {**ARRIVED, "tries": tries}}


def test_a_callback_is_given_up_after_its_tries_and_the_job_is_none_the_worse(rest: Rest) -> None:
    with CallbackServer(status=500) as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest)
        assert len(receiver.bodies) == 3
    assert (noted["0"]["delivered"], noted["0"]["tries"]) == (False, 3)
    assert "500" in noted["0"]["error"]
    job = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (job["status"], sorted(job["stems"])) == ("done", ["drums", "vocals"])


def test_a_place_that_may_be_called_no_more_is_given_up_at_once(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest, callback_allow="")
        assert receiver.bodies == []
    assert (noted["0"]["delivered"], noted["0"]["tries"]) == (False, 1)


def test_the_end_of_a_cancelled_job_is_told(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.client.post(f"/apiv1/jobs/{JOB_ID}/cancel")
        noted = deliver_all(rest)
        assert [(body["status"], body["tracks"]) for body in receiver.bodies] == [("cancelled", [])]
    assert noted["0"]["delivered"] is True


def test_each_submission_is_told_under_an_id_of_its_own(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, status=JobStatus.FAILED, error_code="poison", ran=None)
        deliver_all(rest)
        rest.client.post(f"/apiv1/jobs/{JOB_ID}/retry")
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest)
        assert [body["status"] for body in receiver.bodies] == ["failed", "done"]
        assert len(set(receiver.delivery_ids)) == 2
    assert noted["0"]["delivered"] is True


def test_a_job_that_is_tried_again_has_all_tries_of_its_callback_again(rest: Rest) -> None:
    with CallbackServer(status=500) as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, status=JobStatus.FAILED, error_code="poison", ran=None)
        slow = {"callback_retry_seconds": 3600}
        deliver_until(rest, lambda: rest.queue.outbox.tries(JOB_ID, 0) == 1, **slow)
        rest.client.post(f"/apiv1/jobs/{JOB_ID}/retry")
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest)
        assert [body["status"] for body in receiver.bodies] == ["failed", "done", "done", "done"]
    assert noted["0"]["tries"] == 3


def test_a_callback_of_a_removed_job_is_not_delivered(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        rest.client.delete(f"/apiv1/remove/{JOB_ID}")
        deliver_until(rest, lambda: rest.queue.views.counts().outbox == 0)
        assert receiver.bodies == []


def test_a_callback_keeps_its_id_and_its_tries_over_a_restart_of_redis(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = quick_rest(tmp_path, own_redis.url)
    with CallbackServer(status=500) as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        deliver_until(rest, lambda: rest.queue.outbox.tries(JOB_ID, 0) >= 1, callback_max_attempts=99)
        own_redis.kill()
        own_redis.start()
        receiver.status = 200
        noted = deliver_all(rest)
        tries = len(receiver.bodies)
        assert tries >= 2
        assert len(set(receiver.delivery_ids)) == 1
    assert (noted["0"]["delivered"], noted["0"]["tries"]) == (True, tries)


def test_a_callback_that_redis_lost_is_delivered_under_its_id_when_it_is_owed_again(rest: Rest, redis_url: str) -> None:
    with CallbackServer(status=500) as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        deliver_until(rest, lambda: rest.queue.outbox.tries(JOB_ID, 0) == 1, callback_retry_seconds=3600)
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        receiver.status = 200
        rest.queue.outbox.owe(JOB_ID, 0)
        noted = deliver_all(rest)
        assert len(receiver.bodies) == 2
        assert len(set(receiver.delivery_ids)) == 1
    assert noted["0"]["delivered"] is True


@pytest.mark.parametrize("status", [200, 500], ids=["arrived", "given up"])
def test_a_delivery_that_is_over_is_not_made_again_when_redis_lost_everything(
    rest: Rest, redis_url: str, status: int
) -> None:
    with CallbackServer(status=status) as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest)
        called = len(receiver.bodies)
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        rest.queue.outbox.owe(JOB_ID, 0)
        assert deliver_all(rest) == noted
        assert len(receiver.bodies) == called


def test_a_delivery_that_could_not_be_noted_is_made_again(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    note = rest.ledger.note_delivery
    faults = [StoreError("the store is away"), None]

    def note_if_there(*args: Any) -> None:
        if fault := faults.pop(0):
            raise fault
        note(*args)

    monkeypatch.setattr(rest.ledger, "note_delivery", note_if_there)
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest)
        assert len(receiver.bodies) == 2
        assert len(set(receiver.delivery_ids)) == 1
    assert noted["0"]["delivered"] is True
