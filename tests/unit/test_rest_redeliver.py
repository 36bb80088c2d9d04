"""A delivery that somebody asks for again by hand, and that results can be had without Redis."""

from pathlib import Path
from typing import Any

import pytest
import redis

from delivery_support import (
    JOB_ID,
    STEMS,
    assert_needs_nothing,
    callbacks_of,
    deliver_all,
    deliver_until,
    post,
    quick_rest,
)
from rest_support import Answer, Rest
from support import CallbackServer, RedisServer, song_hash_number
from unmix import names
from unmix.errors import StoreError
from unmix.janitor.reconciler import Reconciler
from unmix.job import JobStatus


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    return quick_rest(tmp_path, redis_url)


def redeliver(rest: Rest, index: object = 0, job_id: str = JOB_ID) -> Answer:
    return rest.client.post(f"/apiv1/jobs/{job_id}/callbacks/{index}/redeliver")


@pytest.mark.parametrize(("status", "ended"), [(204, "delivered"), (500, "given_up"), (410, "gone")])
def test_a_delivery_that_is_over_is_made_again_under_the_same_id(rest: Rest, status: int, ended: str) -> None:
    with CallbackServer(status=status) as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        assert deliver_all(rest)["0"]["state"] == ended
        receiver.status = 204
        answer = redeliver(rest)
        assert (answer.status_code, answer.json["hash"], answer.json["state"]) == (202, JOB_ID, "pending")
        told = callbacks_of(rest)["0"]
        assert (told["state"], told["delivered"], told["tries"], told["error"]) == ("pending", False, 0, None)
        noted = deliver_all(rest)["0"]
        assert (noted["state"], noted["tries"]) == ("delivered", 1)
        assert receiver.bodies[-1] == receiver.bodies[0]
        assert len(set(receiver.delivery_ids)) == 1


def test_a_delivery_that_waits_for_its_next_try_is_made_at_once_with_all_tries_before_it(rest: Rest) -> None:
    with CallbackServer(status=500) as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        deliver_until(rest, lambda: rest.queue.outbox.tries(JOB_ID, 0) == 1, callback_retry_seconds=3600)
        assert redeliver(rest).status_code == 202
        assert deliver_all(rest)["0"]["tries"] == 3


def test_only_the_one_that_is_asked_for_is_made_again(rest: Rest) -> None:
    with CallbackServer() as first, CallbackServer() as second:
        post(rest, first)
        post(rest, second)
        rest.finish(JOB_ID, STEMS)
        deliver_all(rest)
        redeliver(rest, 1)
        deliver_all(rest)
        assert (len(first.bodies), len(second.bodies)) == (1, 2)


def test_a_delivery_that_is_asked_for_again_outlives_the_loss_of_redis(rest: Rest, redis_url: str) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        deliver_all(rest)
        assert_needs_nothing(rest)
        redeliver(rest)
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        reconciler = Reconciler(rest.queue, rest.ledger)
        for _ in range(2):
            reconciler.run()
        deliver_all(rest)
        assert len(receiver.bodies) == 2


def test_a_redelivery_that_breaks_off_in_the_store_leaves_nothing_half_done(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest)

        def refuse(*_: Any, **__: Any) -> None:
            raise StoreError("the store is away")

        monkeypatch.setattr(rest.store, "put_if", refuse)
        assert redeliver(rest).status_code == 503
        monkeypatch.undo()
        assert callbacks_of(rest) == noted
        assert rest.queue.views.counts().outbox == 0


def test_of_a_job_that_nobody_knows_there_is_nothing_to_send(rest: Rest) -> None:
    for job_id in (song_hash_number(9), "nonsense"):
        answer = redeliver(rest, job_id=job_id)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "index", [1, 99, "00", "-1", "x", "1.0", "٠", "%00", "9" * 5000], ids=lambda index: str(index)[:9]
)
def test_a_callback_that_the_job_does_not_have_is_not_found(rest: Rest, index: object) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        answer = redeliver(rest, index)
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_callback")


def test_before_the_end_of_a_job_there_is_nothing_to_send_again(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        answer = redeliver(rest)
    assert (answer.status_code, answer.json["code"]) == (409, "job_not_over")
    assert rest.queue.views.counts().outbox == 0


def test_an_end_that_the_callback_does_not_ask_for_is_not_sent_by_hand_either(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver, events=["done"])
        rest.finish(JOB_ID, status=JobStatus.FAILED, error_code="poison", ran=None)
        noted = deliver_all(rest)
        answer = redeliver(rest)
        assert (answer.status_code, answer.json["code"]) == (409, "callback_unwanted")
        assert callbacks_of(rest) == noted


def test_of_an_end_that_cannot_be_read_nothing_can_be_sent(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        deliver_all(rest)
        rest.store.put(names.outcome_object(JOB_ID), b"{")
        answer = redeliver(rest)
        assert (answer.status_code, answer.json["code"]) == (409, "not_retryable")
        assert callbacks_of(rest) == {}


def test_without_redis_a_job_tells_that_its_callback_is_pending_and_not_how_often_it_was_tried(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    rest = quick_rest(tmp_path, own_redis.url)
    with CallbackServer() as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        own_redis.kill()
        told = callbacks_of(rest)["0"]
        assert (told["state"], told["delivered"], told["tries"], told["next_try_at"]) == ("pending", False, None, None)
        assert redeliver(rest).status_code == 503
