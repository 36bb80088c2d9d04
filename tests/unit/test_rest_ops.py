"""The routes of operation, and what is true of every answer."""

import re
from pathlib import Path

import pytest

from rest_support import SONG, Rest
from support import RedisServer
from unmix import errors
from unmix_rest.http.problems import STATUS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_root_says_hello(rest: Rest, method: str) -> None:
    answer = rest.client.open("/", method=method, json={"hash": "callbacks of old clients come here"})
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"


def test_healthz_answers_whatever_else_is_away(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    own_redis.kill()
    (tmp_path / "store" / "queue").rmdir()
    assert rest.client.get("/healthz").status_code == 200


def test_readyz_names_what_is_away(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    assert rest.client.get("/readyz").json["checks"] == {"redis": "ok", "store": "ok"}
    own_redis.kill()
    answer = rest.client.get("/readyz")
    assert (answer.status_code, answer.json["code"]) == (503, "not_ready")
    assert answer.json["checks"] == {"redis": "queue_unavailable", "store": "ok"}
    own_redis.start()
    (tmp_path / "store" / "queue").rmdir()
    answer = rest.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"]["redis"] == "ok"
    assert answer.json["checks"]["store"] != "ok"


def test_metrics_count_requests_and_songs(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.post_form(b"no song")
    rest.client.get("/apiv1/jobs/" + "0" * 64)
    rest.client.get("/whatever/a/client/thinks/of")
    lines = rest.client.get("/metrics").text.splitlines()
    for line in (
        'unmix_requests_total{route="/apiv1/separate",status="200"} 1.0',
        'unmix_requests_total{route="/apiv1/jobs/<job_id>",status="404"} 1.0',
        'unmix_requests_total{route="none",status="404"} 1.0',
        'unmix_request_duration_seconds_count{route="/apiv1/separate"} 2.0',
        'unmix_request_duration_seconds_count{route="none"} 1.0',
        "unmix_songs_accepted_total 1.0",
        'unmix_songs_rejected_total{code="not_audio"} 1.0',
        "unmix_check_duration_seconds_count 2.0",
        'unmix_jobs_total{code="cancelled",outcome="cancelled"} 0.0',
        "unmix_queue_up 1.0",
    ):
        assert line in lines


def test_metrics_count_jobs_that_were_cancelled(rest: Rest) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    assert rest.client.post(f"/apiv1/jobs/{job_id}/cancel").status_code == 200
    assert 'unmix_jobs_total{code="cancelled",outcome="cancelled"} 1.0' in rest.client.get("/metrics").text


def test_metrics_count_failures_that_somebody_has_to_mend(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def failures() -> dict[str, float]:
        found = re.findall(r'^unmix_failures_total{code="(\w+)"} (\S+)$', rest.client.get("/metrics").text, re.M)
        return {code: float(count) for code, count in found if float(count)}

    assert rest.client.get("/apiv1/jobs/" + "0" * 64).status_code == 404
    assert failures() == {}
    with monkeypatch.context() as broken:
        broken.setattr(rest.queue.views, "waiting", lambda **_: 1 / 0)
        assert rest.client.get("/apiv1/queue").status_code == 500
    (rest.store.root / "queue").rmdir()
    assert rest.post_form(SONG).status_code == 503
    assert failures() == {"internal_error": 1, "bucket_missing": 1}


def test_metrics_are_there_while_redis_is_away(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    own_redis.kill()
    text = rest.client.get("/metrics").text
    assert "unmix_queue_up 0.0" in text
    assert 'unmix_failures_total{code="queue_unavailable"} 1.0' in text


def test_the_version_is_the_distribution_s(rest: Rest) -> None:
    assert rest.client.get("/version").json["name"] == "track-unmix"
    assert rest.client.get("/version").json["version"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/apiv1/separate", {"POST"}),
        ("GET", "/apiv1/separate", {"POST"}),
        ("POST", "/apiv1/queue", {"GET", "HEAD"}),
        ("DELETE", "/apiv1/failed", {"GET", "HEAD"}),
        ("GET", "/apiv1/jobs/" + "0" * 64 + "/cancel", {"POST"}),
        ("GET", "/apiv1/jobs/" + "0" * 64 + "/retry", {"POST"}),
        ("POST", "/apiv1/remove/" + "0" * 64, {"GET", "HEAD", "DELETE"}),
        ("DELETE", "/healthz", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(rest: Rest, method: str, path: str, allowed: set[str]) -> None:
    answer = rest.client.open(path, method=method)
    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == {*allowed, "OPTIONS"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/version", "/apiv1/queue", "/apiv1/failed"])
def test_head_is_as_get(rest: Rest, path: str) -> None:
    assert rest.client.head(path).status_code == 200


def test_an_unforeseen_error_is_told_without_our_insides(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise KeyError("a secret of ours")

    monkeypatch.setattr(rest.queue.views, "waiting", fail)
    answer = rest.client.get("/apiv1/queue")
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.json["instance"] == f"urn:uuid:{answer.json['request_id']}"


def test_an_error_without_a_status_of_its_own_is_told_as_an_internal_one(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise errors.StoreError("a damaged document at /some/path", code="bad_document")

    monkeypatch.setattr(rest.queue.views, "waiting", fail)
    answer = rest.client.get("/apiv1/queue")
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "/some/path" not in answer.text


def test_every_code_is_described() -> None:
    page = (ROOT / "rest" / "README.md").read_text()
    missing = [code for code in STATUS if f"`{code}`" not in page]
    assert not missing


def test_every_code_that_a_request_can_meet_has_a_status() -> None:
    rooms = [ROOT / "src" / "unmix" / room for room in ("audio", "callbacks", "queue", "store", "ledger")]
    sources = [path for room in (*rooms, ROOT / "rest" / "unmix_rest") for path in room.rglob("*.py")]
    raised = {code for path in sources for code in re.findall(r'\bcode="([a-z0-9_]+)"', path.read_text())}
    raised |= {kind.code for kind in (errors.NotFoundError, errors.QueueError, errors.StoreError, errors.AudioError)}
    # These are raised at the start, by a worker, by the janitor, or by the command line only.
    ours = {
        "bad_object_name",
        "callback_gone",
        "codec_died",
        "decoder_died",
        "nothing_to_copy",
        "part_damaged",
        "unknown_store",
        "unreadable",
        "write_failed",
    }
    assert len(raised) > 20
    assert raised - ours <= set(STATUS)
