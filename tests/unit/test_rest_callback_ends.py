"""What a callback asks for, and what its server answers, decide when it is sent, and what is told of it."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

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
from rest_support import SONG, Rest
from support import CallbackServer
from unmix.callbacks.answer import MOST_RETRY_AFTER_SECONDS, retry_after_seconds
from unmix.job import Callback, JobStatus
from unmix.ledger.callback_room import CALLBACKS_OF_ASKER

#: So long that no test sees its end.
LONG = {"callback_retry_seconds": 3600}


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    return quick_rest(tmp_path, redis_url)


def fail(rest: Rest) -> None:
    rest.finish(JOB_ID, status=JobStatus.FAILED, error_code="poison", ran=None)


def retry(rest: Rest) -> None:
    assert rest.client.post(f"/apiv1/jobs/{JOB_ID}/retry").status_code == 200


def seconds_to_next_try(rest: Rest, receiver: CallbackServer) -> float:
    """Deliver once, to a receiver that does not take it, and return how long it is left alone then."""
    before = datetime.now(UTC)
    deliver_until(rest, lambda: rest.queue.outbox.tries(JOB_ID, 0) == 1, **LONG)
    told = callbacks_of(rest)["0"]["next_try_at"]
    return (datetime.fromisoformat(told) - before).total_seconds()


# --- which ends are told


def test_only_the_ends_that_a_callback_asks_for_are_told(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver, events=["done", "cancelled"])
        fail(rest)
        noted = deliver_all(rest)
        assert receiver.bodies == []
        assert (noted["0"]["state"], noted["0"]["delivered"], noted["0"]["tries"]) == ("unwanted", False, 0)
        retry(rest)
        rest.finish(JOB_ID, STEMS)
        assert deliver_all(rest)["0"]["state"] == "delivered"
        assert [body["status"] for body in receiver.bodies] == ["done"]


def test_a_job_whose_end_nobody_asks_for_is_not_left_open(rest: Rest) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver, events=["failed"])
        rest.finish(JOB_ID, STEMS)
        deliver_all(rest)
        assert_needs_nothing(rest)


@pytest.mark.parametrize("events", [None, ["done", "failed", "cancelled"], ["cancelled", "done", "failed", "done"]])
def test_a_callback_that_names_all_ends_is_the_one_that_names_none(rest: Rest, events: list[str] | None) -> None:
    with CallbackServer() as receiver:
        post(rest, receiver)
        post(rest, receiver, events=events)
        request = rest.ledger.request(JOB_ID)
    assert request is not None
    assert request.callbacks == (Callback(receiver.url, {}),)


@pytest.mark.parametrize(
    "events", [[], "done", ["queued"], ["DONE"], [1], [None], [["done"]], {"done": True}, 1, True], ids=str
)
def test_a_choice_of_ends_that_is_none_is_refused(rest: Rest, events: Any) -> None:
    callback = {"url": "http://127.0.0.1/", "events": events}
    as_form = rest.post_form(SONG, callback=json.dumps(callback))
    as_json = rest.post_json(SONG, callback=callback)
    assert (as_form.status_code, as_form.json["code"]) == (422, "invalid_field")
    assert (as_json.status_code, as_json.json["code"]) == (400, "invalid_field")
    assert rest.stored() == []


# --- what its server answers


def test_a_receiver_that_is_gone_is_not_called_again_for_this_end_nor_for_the_next(rest: Rest) -> None:
    with CallbackServer(status=410) as gone, CallbackServer() as there:
        post(rest, gone)
        post(rest, there)
        fail(rest)
        noted = deliver_all(rest)
        assert (noted["0"]["state"], noted["0"]["tries"], noted["0"]["http_status"]) == ("gone", 1, 410)
        retry(rest)
        rest.finish(JOB_ID, STEMS)
        noted = deliver_all(rest)
        assert {index: each["state"] for index, each in noted.items()} == {"0": "delivered"}
        assert (len(gone.bodies), len(there.bodies)) == (1, 2)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_receiver_that_asks_for_time_is_left_alone_that_long(rest: Rest, status: int, form: str) -> None:
    wait = 20_000
    at = datetime.now(UTC) + timedelta(seconds=wait)
    asked = str(wait) if form == "seconds" else format_datetime(at, usegmt=True)
    with CallbackServer(status=status, Retry_After=asked) as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        assert wait - 2 <= seconds_to_next_try(rest, receiver) <= wait * 1.2 + 60


def test_a_receiver_that_asks_for_little_time_does_not_use_up_its_tries_in_it(rest: Rest) -> None:
    with CallbackServer(status=503, Retry_After="0") as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        assert seconds_to_next_try(rest, receiver) >= 0.8 * LONG["callback_retry_seconds"]


def test_other_answers_do_not_ask_for_time(rest: Rest) -> None:
    with CallbackServer(status=500, Retry_After="80000") as receiver:
        post(rest, receiver)
        rest.finish(JOB_ID, STEMS)
        assert seconds_to_next_try(rest, receiver) <= 1.2 * LONG["callback_retry_seconds"] + 60


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0", 0),
        ("9" * 12, MOST_RETRY_AFTER_SECONDS),
        ("9" * 5000, 0),
        ("-5", 0),
        ("1.5", 0),
        ("1e3", 0),
        ("٣", 0),
        ("", 0),
        (None, 0),
        ("soon", 0),
        ("Thu, 01 Jan 2026 00:01:40 GMT", 100),
        ("Thu, 01 Jan 2026 00:01:40 -0000", 100),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MOST_RETRY_AFTER_SECONDS),
        ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", 0),
        ("Thu, 99 Jan 2026 99:99:99 GMT", 0),
        ("Thu, 01 Jan 2026 00:00:00 +999999999999999", 0),
    ],
)
def test_what_is_asked_for_is_read_as_seconds_or_a_date_within_bounds(value: str | None, seconds: float) -> None:
    assert retry_after_seconds(value, now=datetime(2026, 1, 1, tzinfo=UTC)) == seconds


def test_what_failed_together_does_not_come_together_again(rest: Rest) -> None:
    with CallbackServer(status=500) as receiver:
        for number in range(CALLBACKS_OF_ASKER):
            post(rest, receiver, number=number)
        rest.finish(JOB_ID, STEMS)
        deliver_until(rest, lambda: len(receiver.bodies) == CALLBACKS_OF_ASKER, **LONG)
        told = callbacks_of(rest)
    times = sorted(datetime.fromisoformat(each["next_try_at"]) for each in told.values())
    assert len(times) == CALLBACKS_OF_ASKER
    assert times[-1] - times[0] > timedelta(seconds=LONG["callback_retry_seconds"] / 20)


# --- what is told of it


def test_a_delivery_that_is_not_over_tells_how_its_last_try_went_and_when_the_next_is(rest: Rest) -> None:
    with CallbackServer(status=500) as receiver:
        post(rest, receiver)
        assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["callbacks"] == {}
        rest.finish(JOB_ID, STEMS)
        before = callbacks_of(rest)["0"]
        assert (before["state"], before["delivered"], before["tries"]) == ("pending", False, 0)
        assert (before["at"], before["error"], before["http_status"]) == (None, None, None)
        deliver_until(rest, lambda: rest.queue.outbox.tries(JOB_ID, 0) == 1, **LONG)
        after = callbacks_of(rest)["0"]
    assert (after["state"], after["delivered"], after["tries"], after["http_status"]) == ("pending", False, 1, 500)
    assert "500" in after["error"]
    assert datetime.fromisoformat(after["at"]) < datetime.fromisoformat(after["next_try_at"])


def test_a_server_that_cannot_be_reached_has_an_error_and_no_status(rest: Rest) -> None:
    with CallbackServer() as receiver:
        pass
    post(rest, receiver)
    rest.finish(JOB_ID, STEMS)
    noted = deliver_all(rest)
    assert (noted["0"]["state"], noted["0"]["http_status"]) == ("given_up", None)
    assert "reached" in noted["0"]["error"]


def test_what_is_told_of_a_callback_has_nothing_of_its_address_or_data(rest: Rest) -> None:
    with CallbackServer(status=500) as receiver:
        receiver.url += "?token=hunter2"
        post(rest, receiver, password="hunter2")
        rest.finish(JOB_ID, STEMS)
        deliver_until(rest, lambda: rest.queue.outbox.tries(JOB_ID, 0) == 1, **LONG)
        assert "hunter2" not in rest.client.get(f"/apiv1/jobs/{JOB_ID}").text
        rest.queue.outbox.owe_anew(JOB_ID, 0)
        deliver_all(rest)
        assert "hunter2" not in rest.client.get(f"/apiv1/jobs/{JOB_ID}").text
