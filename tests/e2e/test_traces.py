"""Traces through the whole service: one for each job, over every process that has to do with it."""

import base64
from collections.abc import Iterator

import pytest
import requests

from otlp_receiver import OtlpReceiver, Span
from stack import Stack, running
from support import CallbackServer, eventually, make_song

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
POST = "POST /apiv1/separate"


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def stack(receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that is traced."""
    settings = {
        "UNMIX_TRACES": receiver.url,
        "UNMIX_CALLBACK_ALLOW": "127.0.0.1",
        "UNMIX_PARTS_LEAST_SECONDS": "5",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with running(tmp_path_factory.mktemp("service"), **settings) as stack:
        yield stack


def test_a_job_has_one_trace_from_its_request_to_its_callback_and_its_id_is_in_every_line_about_it(
    stack: Stack, receiver: OtlpReceiver
) -> None:
    with CallbackServer() as called:
        song = base64.b64encode(make_song(12, seed=1)).decode()
        answer = requests.post(
            f"{stack.url}/apiv1/separate",
            json={"mp3": song, "callback": {"url": called.url}},
            headers={"traceparent": f"00-{TRACE}-{CALLER}-01"},
            timeout=60,
        )
        job_id = answer.json()["hash"]
        assert stack.wait_until_over(job_id)["status"] == "done"
        stack.wait_for(lambda: any(span.name == "callback" for span in receiver.spans), "the callback is traced")
        stack.wait_for(lambda: any(span.name == "attempt" for span in receiver.spans), "the attempt is traced")

        spans = [span for span in receiver.spans if span.trace_id == TRACE]
        named = {span.span_id: span.name for span in spans} | {CALLER: "the caller"}
        assert {(span.service, span.name, named[span.parent_id]) for span in spans} == {
            ("unmix-rest", POST, "the caller"),
            ("unmix-rest", "check the song", POST),
            ("unmix-worker", "wait in the queue", POST),
            ("unmix-worker", "attempt", POST),
            ("unmix-worker", "fetch the song", "attempt"),
            ("unmix-worker", "separate", "attempt"),
            ("unmix-worker", "part", "separate"),
            ("unmix-worker", "upload", "attempt"),
            ("unmix-worker", "commit", "attempt"),
            ("unmix-worker", "publish", "attempt"),
            ("unmix-janitor", "callback", POST),
        }
        of_job = {span.name for span in spans if span.facts.get("unmix.job_id") == job_id}
        assert of_job == {POST, "attempt", "callback"}
        assert not any(span.failed_with for span in spans)
        (callback,) = (span for span in spans if span.name == "callback")
        (head,) = called.heads
        assert head["traceparent"] == f"00-{TRACE}-{callback.span_id}-01"

        log = (stack.store.parent / "worker-1.log").read_text()
        about = log[log.index("event='job started'") : log.index("event='job over'")].splitlines()[1:]
        assert all(job_id in line for line in about if "event=" in line)


def test_what_fails_is_told_by_its_code_and_is_in_a_trace_of_its_own_if_nobody_named_one(
    stack: Stack, receiver: OtlpReceiver
) -> None:
    job_id = "0" * 64

    def attempts() -> list[Span]:
        return [each for each in receiver.spans if each.name == "attempt" and each.facts.get("unmix.job_id") == job_id]

    stack.queue.submit(job_id, "")  # as a foreign producer pushes it, without a song
    eventually(attempts, "the attempt is traced")
    (attempt,) = attempts()
    assert (attempt.parent_id, attempt.failed_with) == ("", "input_missing")
