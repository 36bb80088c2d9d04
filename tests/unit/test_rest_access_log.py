"""Each request has one line in the log, without keys, and whatever it is about has its job."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from rest_support import Rest
from unmix import names

JOB = names.hash_song(b"nobody's")


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as captured:
        yield captured


def of_requests(lines: list[Any]) -> list[Mapping[str, Any]]:
    return [line for line in lines if line["event"] == "request"]


def test_a_request_has_one_line_with_its_route_and_status(rest: Rest, lines: list[Any]) -> None:
    rest.client.get(f"/apiv1/jobs/{JOB}")
    (line,) = of_requests(lines)
    assert (line["method"], line["route"], line["status"]) == ("GET", "/apiv1/jobs/<job_id>", 404)
    assert line["ms"] >= 0


def test_what_was_said_in_the_url_is_not_logged(rest: Rest, lines: list[Any]) -> None:
    rest.client.get(f"/apiv1/jobs/{JOB}?link=sealed-secret")
    rest.client.get("/nowhere/sealed-secret?link=sealed-secret")
    assert len(of_requests(lines)) == 2
    assert "sealed-secret" not in str(lines)


def test_probes_are_logged_only_when_they_fail(rest: Rest, lines: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        rest.client.get(path)
    assert of_requests(lines) == []
    rest.client.post("/healthz")
    assert [line["status"] for line in of_requests(lines)] == [405]


#: Logs a request and something else that is about a job, and prints what the list of the contract got.
CODE = """
import sys
import structlog
from unmix.queue.job_queue import JobQueue
from unmix.runtime.logs import configure_logs
from unmix.settings import Settings
with JobQueue(sys.argv[1]) as queue:
    configure_logs("rest", Settings(), queue)
    with structlog.contextvars.bound_contextvars(job_id="of-this-job"):
        structlog.get_logger().info("request", status=200)
        structlog.get_logger().info("store away")
    print("listed", queue.log_list.pop(block_seconds=30))
"""


def test_lines_have_the_job_that_their_thread_is_about_and_requests_are_not_on_the_list(redis_url: str) -> None:
    told = subprocess.run([sys.executable, "-c", CODE, redis_url], capture_output=True, text=True, check=True).stdout
    request, other, listed = told.splitlines()
    assert "event='request'" in request
    assert "event='store away'" in other
    assert "job_id='of-this-job'" in other
    assert listed.endswith("rest.info:store away job_id=of-this-job")
