"""What pages of other origins can have a browser do to a service that trusts whoever reaches it: nothing that lasts."""

from pathlib import Path
from typing import Any

import pytest

from rest_support import SONG, Answer, Rest
from unmix.access.keyring import Keyring
from unmix.access.keys import GRANTABLE
from unmix.names import hash_song

JOB_ID = hash_song(SONG)
ELSEWHERE = "https://evil.example"
PAGE = "https://example.com"
FOREIGN = [
    {"Origin": ELSEWHERE},
    {"Origin": "null"},
    {"Origin": "http://localhost:8080"},  # another port of this machine is another origin
    {"Origin": "http://localhost.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "what comes after us"},
    {"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
]
OURS: list[dict[str, str]] = [
    {},  # programs, and the clients of older services
    {"Origin": "http://localhost"},
    {"Origin": "http://localhost:80"},
    {"Origin": "https://localhost"},  # where a proxy ends TLS
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},  # a person typed it
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
]
CHANGES = [
    *(
        ("GET", f"/apiv1/remove/{JOB_ID}"),
        ("GET", f"/apiv1/remove/{JOB_ID}/vocals"),
        ("GET", f"/apiv1/remove?hash={JOB_ID}"),
        ("HEAD", f"/apiv1/remove/{JOB_ID}"),
    ),
    *(
        ("DELETE", f"/apiv1/remove/{JOB_ID}"),
        ("DELETE", f"/apiv1/jobs/{JOB_ID}"),
        ("POST", f"/apiv1/jobs/{JOB_ID}/cancel"),
    ),
    *(("POST", f"/apiv1/jobs/{JOB_ID}/retry"), ("POST", "/apiv1/jobs"), ("POST", "/apiv1/separate")),
    *(
        ("POST", "/apiv1/uploads"),
        ("PUT", "/apiv1/uploads/x"),
        ("POST", "/apiv1/session"),
        ("DELETE", "/apiv1/session"),
    ),
]


def ask(rest: Rest, method: str, path: str, headers: dict[str, str], **options: Any) -> Answer:
    return rest.client.open(path, method=method, headers=headers, **options)


def code(answer: Answer) -> tuple[int, Any]:
    return answer.status_code, (answer.json or {}).get("code")


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_elsewhere_can_change_nothing(rest: Rest, headers: dict[str, str]) -> None:
    rest.post_form(SONG)
    before = rest.stored()
    for method, path in CHANGES:
        answer = ask(rest, method, path, headers)
        assert answer.status_code == 403, (method, path)
        assert method == "HEAD" or code(answer) == (403, "foreign_page")
    assert rest.stored() == before
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["status"] == "queued"


@pytest.mark.parametrize("headers", OURS, ids=str)
def test_our_own_page_and_programs_go_on_as_before(rest: Rest, headers: dict[str, str]) -> None:
    rest.post_form(SONG)
    assert ask(rest, "POST", f"/apiv1/jobs/{JOB_ID}/cancel", headers).status_code == 200
    assert ask(rest, "GET", f"/apiv1/remove/{JOB_ID}", headers).status_code == 200


def test_a_link_elsewhere_may_lead_to_a_stem(rest: Rest) -> None:
    rest.finish(rest.post_form(SONG).json["hash"], {"vocals": b"bytes"})
    for headers in FOREIGN:
        assert ask(rest, "GET", f"/apiv1/track/{JOB_ID}/vocals", headers).status_code == 200


def test_pages_that_the_operator_names_may_change_things(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, cors_origins=PAGE)
    rest.post_form(SONG)
    theirs = {"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}
    assert code(ask(rest, "GET", f"/apiv1/remove/{JOB_ID}", {"Sec-Fetch-Site": "cross-site"})) == (403, "foreign_page")
    assert code(ask(rest, "DELETE", f"/apiv1/jobs/{JOB_ID}", {"Origin": f"{PAGE}.evil.example"})) == (
        403,
        "foreign_page",
    )
    assert ask(rest, "POST", f"/apiv1/jobs/{JOB_ID}/cancel", theirs).status_code == 200
    answer = ask(rest, "POST", "/apiv1/jobs", {"Origin": ELSEWHERE})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_star_lets_all_pages_change_things(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, cors_origins="*")
    rest.post_form(SONG)
    assert ask(rest, "POST", f"/apiv1/jobs/{JOB_ID}/cancel", {"Origin": ELSEWHERE}).status_code == 200


def test_a_name_that_is_not_ours_leads_to_nothing(rest: Rest) -> None:
    """A page can lead a name of its own here, and is then of the same origin (DNS rebinding)."""
    rest.post_form(SONG)
    own = {"Origin": "http://evil.example:5000", "Sec-Fetch-Site": "same-origin"}
    for method, path in (*CHANGES, ("GET", "/apiv1/queue"), ("GET", "/"), ("GET", "/nothing"), ("GET", "/metrics")):
        answer = ask(rest, method, path, own, base_url="http://evil.example:5000")
        assert answer.status_code == 421, (method, path)
        assert method == "HEAD" or code(answer) == (421, "unknown_host")
    assert rest.client.get("/healthz", base_url="http://10.1.2.3:5000").status_code == 200
    for host in ("localhost:5000", "127.0.0.1:5000", "[::1]:5000"):
        assert rest.client.get("/apiv1/queue", base_url=f"http://{host}").status_code == 200


def test_names_that_the_operator_gives_are_ours(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, hosts="studio.example.org, Rest", open=True)
    for host in ("studio.example.org", "rest:5000", "192.168.1.7:5000"):
        assert rest.client.get("/apiv1/queue", base_url=f"http://{host}").status_code == 200
    assert rest.client.get("/apiv1/queue", base_url="http://evil.example").status_code == 421


def test_with_keys_no_name_matters_but_a_page_elsewhere_uses_nobodys_session(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, auth="keys")
    _, key = Keyring(rest.store).create("anna", scopes=GRANTABLE, tenant="main")
    said = {"Authorization": f"Bearer {key}"}
    assert rest.client.get("/apiv1/queue", base_url="http://unmix.example.org", headers=said).status_code == 200
    rest.client.post("/apiv1/jobs", data=SONG, content_type="audio/wav", headers=said)
    rest.client.post("/apiv1/session", json={"key": key})
    for headers in FOREIGN:
        assert code(ask(rest, "GET", f"/apiv1/remove/{JOB_ID}", headers)) == (403, "foreign_page")
    # Whoever says the key has it: no browser adds that of itself.
    assert ask(rest, "GET", f"/apiv1/remove/{JOB_ID}", {**said, "Origin": ELSEWHERE}).status_code == 200


def test_without_keys_the_word_bearer_is_no_way_around(rest: Rest) -> None:
    assert code(ask(rest, "POST", "/apiv1/jobs", {"Authorization": "Bearer x", "Origin": ELSEWHERE})) == (
        403,
        "foreign_page",
    )
