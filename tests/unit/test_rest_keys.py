"""REST where keys are wanted: who may do what, how a key is said, and how a browser signs in with one."""

import base64
from pathlib import Path
from typing import Any

import pytest

from rest_support import SONG, Answer, Client, Rest
from unmix import names
from unmix.access.keyring import Keyring
from unmix.access.keys import GRANTABLE, Key, Scope, new_key
from unmix.names import hash_song
from unmix_rest.http.credentials import COOKIE
from unmix_rest.http.route import Route
from unmix_rest.routes.table import ROUTES

JOB_ID = hash_song(SONG)
VALUES = {"job_id": JOB_ID, "track": "vocals", "stem": "vocals", "int:index": "0", "index": "0", "upload_id": "x"}


@pytest.fixture
def guarded(tmp_path: Path, redis_url: str) -> Rest:
    """A service that wants keys."""
    return Rest(tmp_path, redis_url, auth="keys")


def make(rest: Rest, *scopes: str, name: str = "anna", tenant: str = "main") -> tuple[Key, str]:
    return Keyring(rest.store).create(name, scopes=scopes or GRANTABLE, tenant=tenant)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def code(answer: Answer) -> tuple[int, Any]:
    return answer.status_code, (answer.json or {}).get("code")


def ask(rest: Rest, route: Route, method: str, **options: Any) -> Answer:
    path = route.rule
    for name, value in VALUES.items():
        path = path.replace(f"<{name}>", value)
    return rest.client.open(path.replace("<path:file>", "app.js"), method=method, **options)


def routes(*, public: bool) -> list[Any]:
    return [
        pytest.param(route, method, id=f"{method} {route.rule}")
        for route in ROUTES
        for method in route.methods
        if (route.scope is Scope.PUBLIC) == public
    ]


@pytest.mark.parametrize(("route", "method"), routes(public=False))
def test_nothing_of_anybodys_songs_is_had_or_changed_without_a_key(guarded: Rest, route: Route, method: str) -> None:
    answer = ask(guarded, route, method)
    assert code(answer) == (401, "key_required")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert answer.mimetype == "application/problem+json"
    answer = ask(guarded, route, method, headers=bearer(new_key()))
    assert code(answer) == (401, "bad_key")
    assert guarded.stored() == []


@pytest.mark.parametrize(("route", "method"), routes(public=False))
def test_a_key_opens_what_its_scope_is_for_and_nothing_else(guarded: Rest, route: Route, method: str) -> None:
    for scope in GRANTABLE:
        _, key = make(guarded, scope, name=scope)
        answer = ask(guarded, route, method, headers=bearer(key))
        assert (code(answer) == (403, "scope_missing")) == (scope is not route.scope)
        assert answer.status_code != 401


@pytest.mark.parametrize(("route", "method"), routes(public=True))
def test_what_tells_nothing_of_songs_is_open(guarded: Rest, route: Route, method: str) -> None:
    assert ask(guarded, route, method).status_code < 300 or method == "POST"
    assert ask(guarded, route, method).status_code not in (401, 403)


def test_every_scope_is_wanted_somewhere() -> None:
    assert {route.scope for route in ROUTES} == set(Scope)


def test_what_there_is_not_is_not_there_for_those_without_a_key_either(guarded: Rest) -> None:
    assert code(guarded.client.get("/apiv1/nothing")) == (404, "not_found")
    assert code(guarded.client.post("/apiv1/queue")) == (405, "method_not_allowed")


def test_a_key_is_said_in_any_of_the_ways_that_clients_have(guarded: Rest) -> None:
    _, key = make(guarded)
    for headers in (
        bearer(key),
        {"Authorization": f"bearer {key}"},
        *(basic(key, ""), basic("", key), basic("anna", key), basic(key, "x")),
    ):
        assert guarded.client.get("/apiv1/queue", headers=headers).status_code == 200, headers


@pytest.mark.parametrize(
    "said",
    [
        *("", "Bearer", "Bearer ", "Basic", "Basic !", "Basic Og==", "Digest username=x", "unmix_", "Bearer \x80"),
        *(f"Bearer {'x' * 5000}", f"Bearer unmix_{'a' * 42}", f"Basic {base64.b64encode(b'anna').decode()}"),
    ],
)
def test_what_is_no_key_is_refused(guarded: Rest, said: str) -> None:
    answer = guarded.client.get("/apiv1/queue", headers={"Authorization": said})
    assert code(answer) == (401, "bad_key")


def test_a_revoked_key_and_one_whose_time_is_over_are_refused(guarded: Rest) -> None:
    keyring = Keyring(guarded.store)
    _, revoked = make(guarded)
    keyring.revoke("anna")
    _, over = keyring.create("ben", scopes=GRANTABLE, tenant="main", expires_at=1.0)
    for key in (revoked, over):
        assert code(guarded.client.get("/apiv1/queue", headers=bearer(key))) == (401, "bad_key")


def test_an_old_client_is_served_with_a_key_in_its_url(guarded: Rest) -> None:
    _, key = make(guarded)
    song = base64.b64encode(SONG).decode()
    answer = guarded.client.post("/apiv1/separate", json={"mp3": song}, headers=basic(key, ""))
    assert (answer.status_code, answer.json["hash"]) == (200, JOB_ID)
    queue = guarded.client.open("/apiv1/queue", method="GET", json=None, headers=basic(key, ""))
    assert queue.json["queue"] == [JOB_ID]


def test_the_store_that_is_away_is_told_as_that(guarded: Rest) -> None:
    _, key = make(guarded)
    guarded.store.root.rename(guarded.store.root.with_name("elsewhere"))
    assert guarded.client.get("/apiv1/queue", headers=bearer(key)).status_code == 503
    assert guarded.client.get("/healthz").status_code == 200


def sign_in(rest: Rest, key: str, **options: Any) -> Answer:
    return rest.client.post("/apiv1/session", json={"key": key}, **options)


def test_a_browser_signs_in_and_out(guarded: Rest) -> None:
    made, key = make(guarded, "read")
    assert guarded.client.get("/apiv1/session").json == {
        **{"needs_key": True, "name": None, "tenant": None, "scopes": [], "expires_at": None},
    }
    answer = sign_in(guarded, f" {key}\n")
    assert (answer.status_code, answer.json["name"], answer.json["scopes"]) == (201, "anna", ["read"])
    assert guarded.client.get("/apiv1/queue").status_code == 200
    assert guarded.client.get("/apiv1/session").json["name"] == made.name
    assert code(guarded.client.delete(f"/apiv1/jobs/{JOB_ID}")) == (403, "scope_missing")
    assert guarded.client.delete("/apiv1/session").status_code == 204
    assert guarded.client.get_cookie(COOKIE) is None
    assert code(guarded.client.get("/apiv1/queue")) == (401, "key_required")


def test_the_cookie_is_not_the_key_and_no_script_or_other_page_has_it(guarded: Rest) -> None:
    _, key = make(guarded)
    cookie = sign_in(guarded, key).headers["Set-Cookie"]
    assert key not in cookie
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    assert "; Secure" in sign_in(guarded, key, base_url="https://localhost").headers["Set-Cookie"]


def test_a_session_is_made_of_a_key_in_the_header_too(guarded: Rest) -> None:
    _, key = make(guarded)
    assert guarded.client.post("/apiv1/session", headers=bearer(key)).status_code == 201
    assert guarded.client.get("/apiv1/queue").status_code == 200


def test_a_session_ends_with_its_key(guarded: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    _, key = make(guarded)
    sign_in(guarded, key)
    Keyring(guarded.store).revoke("anna")
    monkeypatch.setattr("unmix.access.known_keys.KNOWN_SECONDS", 0)
    assert code(guarded.client.get("/apiv1/queue")) == (401, "key_required")
    assert guarded.client.get("/apiv1/session").json["name"] is None


@pytest.mark.parametrize("cookie", ["", "x", "x.y.z", "\x80", "WyJhIiwxXQ.x"])
def test_a_cookie_that_is_not_ours_is_none(guarded: Rest, cookie: str) -> None:
    client = Client(guarded.client.application)
    answer = client.get("/apiv1/queue", headers={"Cookie": f"{COOKIE}={cookie}"})
    assert code(answer) == (401, "key_required")


@pytest.mark.parametrize(
    ("body", "status", "wanted"),
    [
        (b"", 422, "missing_field"),
        (b"{}", 422, "missing_field"),
        (b'{"key": 7}', 422, "invalid_field"),
        (b'{"key": "x"}', 401, "bad_key"),
        (b"[]", 400, "invalid_json_shape"),
        (b"{", 400, "invalid_json"),
        (b'{"key": "' + b"x" * 5000 + b'"}', 413, "payload_too_large"),
    ],
)
def test_what_signs_nobody_in(guarded: Rest, body: bytes, status: int, wanted: str) -> None:
    answer = guarded.client.post("/apiv1/session", data=body, content_type="application/json")
    assert code(answer) == (status, wanted)
    assert "Set-Cookie" not in answer.headers


def test_without_keys_nobody_signs_in(rest: Rest) -> None:
    assert rest.client.get("/apiv1/session").json["needs_key"] is False
    answer = sign_in(rest, new_key())
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (200, False)
    assert rest.client.get("/apiv1/queue", headers=bearer("x")).status_code == 200


def test_the_description_says_that_a_key_is_wanted(guarded: Rest, rest: Rest) -> None:
    wanted = guarded.client.get("/apiv1/openapi.json").json
    queue = wanted["paths"]["/apiv1/queue"]["get"]
    assert {"key": ["read"]} in queue["security"]
    assert {} not in queue["security"]
    assert wanted["paths"]["/healthz"]["get"]["security"] == []
    job = wanted["paths"]["/apiv1/jobs/{job_id}"]["get"]
    assert {way for each in job["security"] for way in each} == set(wanted["components"]["securitySchemes"])
    assert {"link": ["read"]} not in queue["security"]
    unwanted = rest.client.get("/apiv1/openapi.json").json
    assert {} in unwanted["paths"]["/apiv1/queue"]["get"]["security"]


def test_keys_are_no_songs_to_those_who_go_over_the_store(guarded: Rest) -> None:
    make(guarded)
    sign_in(guarded, make(guarded, name="ben")[1])
    assert [song.song_hash for song in guarded.ledger.inventory.songs()] == []
    assert all(names.owner_of(info.name) is None for info in guarded.store.list("queue"))
