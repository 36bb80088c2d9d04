"""The routes of operation, and what is true of every answer."""

import re
from pathlib import Path

import pytest

from rest_support import SONG, Rest
from support import RedisServer
from unmix import errors
from unmix_rest.http.problems import STATUS

ROOT = Path(__file__).parents[2]

_METRIC = re.compile(r"\b(unmix_(?!rest\b|worker\b)\w+)(?:{([^}]*)})?")


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


def test_metrics_count_requests_songs_and_the_queue(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.post_form(b"no song")
    rest.client.get("/apiv1/jobs/" + "0" * 64)
    rest.client.get("/whatever/a/client/thinks/of")
    text = rest.client.get("/metrics").text
    for line in (
        'unmix_requests_total{route="/apiv1/separate",status="200"} 1.0',
        'unmix_requests_total{route="/apiv1/jobs/<job_id>",status="404"} 1.0',
        'unmix_requests_total{route="none",status="404"} 1.0',
        "unmix_songs_accepted_total 1.0",
        'unmix_songs_rejected_total{code="not_audio"} 1.0',
        "unmix_queue_up 1.0",
        'unmix_queue_jobs{place="waiting"} 1.0',
        'unmix_queue_jobs{place="running"} 0.0',
        'unmix_queue_jobs{place="delayed"} 0.0',
        "unmix_queue_open_jobs 1.0",
        "unmix_queue_deliveries 0.0",
        "unmix_damaged_documents 0.0",
    ):
        assert line in text.splitlines()


def test_a_job_counts_in_one_place_at_a_time(rest: Rest) -> None:
    def jobs_by_place() -> dict[str, float]:
        text = rest.client.get("/metrics").text
        return {place: float(n) for place, n in re.findall(r'^unmix_queue_jobs{place="(\w+)"} (\S+)$', text, re.M)}

    job_id = rest.post_form(SONG).json["hash"]
    assert jobs_by_place() == {"waiting": 1, "running": 0, "delayed": 0}
    assert rest.queue.take(block_seconds=1) == job_id
    claim = rest.queue.claim(job_id, job_id, "worker-1")
    assert claim is not None
    assert jobs_by_place() == {"waiting": 0, "running": 1, "delayed": 0}
    rest.queue.fail(claim, error_code="store_unavailable")
    assert jobs_by_place() == {"waiting": 0, "running": 0, "delayed": 1}


def test_every_metric_is_described(rest: Rest) -> None:
    page = (ROOT / "rest" / "README.md").read_text()
    told = re.findall(r"^# TYPE (\S+) ", rest.client.get("/metrics").text, re.M)
    assert len(told) > 5
    assert not [name for name in told if f"| `{name}` |" not in page]


def test_every_metric_that_a_page_or_a_manifest_names_is_told(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.post_form(b"no song")
    text = rest.client.get("/metrics").text
    told = set(_METRIC.findall(text))
    told |= {(name, "") for name, _ in told}
    files = (path for folder in ("docs", "k8s", "rest") for path in (ROOT / folder).rglob("*"))
    pages = [path.read_text() for path in files if path.suffix in (".md", ".yaml")]
    named = {(name, labels) for page in pages for name, labels in _METRIC.findall(page)}
    assert len(named) > 10
    # Which statuses and codes there are today says nothing; the places of a job are always the same.
    assert {(name, labels if "place=" in labels else "") for name, labels in named} <= told


def test_metrics_are_there_while_redis_is_away(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    own_redis.kill()
    text = rest.client.get("/metrics").text
    assert "unmix_queue_up 0.0" in text
    assert re.findall(r"^unmix_queue_\w+", text, re.M) == ["unmix_queue_up"]


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
