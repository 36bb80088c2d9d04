"""What pages of other origins may do with the API in a browser."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from rest_support import SONG, Answer, Rest
from unmix.names import hash_song
from unmix.settings import Settings
from unmix_rest.http.route import Route
from unmix_rest.routes.table import ROUTES

PAGE = "https://example.com"
JOB_ID = hash_song(SONG)


@pytest.fixture
def open_to(tmp_path: Path, redis_url: str) -> Rest:
    """A service that pages of two origins may use."""
    return Rest(tmp_path, redis_url, cors_origins=f"{PAGE}, http://localhost:3000")


def cors_headers(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers if name.startswith("Access-Control-") or name == "Vary"}


def preflight(rest: Rest, path: str, method: str, origin: str = PAGE) -> Answer:
    return rest.client.open(path, method="OPTIONS", headers={"Origin": origin, "Access-Control-Request-Method": method})


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
def test_a_page_of_an_origin_that_is_named_may_read_answers(open_to: Rest, origin: str) -> None:
    answer = open_to.client.get("/version", headers={"Origin": origin})
    assert cors_headers(answer) == {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "Location, Content-Disposition, Upload-Offset, ETag, Retry-After, RateLimit, "
        "RateLimit-Policy",
        "Vary": "Origin",
    }


@pytest.mark.parametrize(
    "origin", ["https://example.com.evil.org", "https://sub.example.com", "http://example.com", "null", "", "*", None]
)
def test_others_may_not_and_caches_know_that_it_depends(open_to: Rest, origin: str | None) -> None:
    for answer in (
        open_to.client.get("/version", headers={} if origin is None else {"Origin": origin}),
        preflight(open_to, "/version", "GET", origin or ""),
    ):
        assert cors_headers(answer) == {"Vary": "Origin"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.methods[0]} {route.rule}")
def test_a_browser_is_told_which_methods_a_url_has(open_to: Rest, route: Route) -> None:
    path = route.rule.replace("<job_id>", JOB_ID).replace("<int:index>", "0").replace("<", "").replace(">", "")
    for method in route.methods:
        answer = preflight(open_to, path, method)
        assert (answer.status_code, answer.data) == (200, b"")
        headers = cors_headers(answer)
        assert headers["Access-Control-Allow-Origin"] == PAGE
        assert method in headers["Access-Control-Allow-Methods"].split(", ")
        assert "BREW" not in headers["Access-Control-Allow-Methods"]
        assert {"Content-Type", "Content-Range", "Last-Event-ID"} < {
            *headers["Access-Control-Allow-Headers"].split(", ")
        }
        assert int(headers["Access-Control-Max-Age"]) > 0


def test_errors_are_told_to_pages_too(open_to: Rest) -> None:
    for path, method in (("/nowhere", "GET"), ("/apiv1/separate", "GET"), ("/apiv1/jobs", "POST")):
        answer = open_to.client.open(path, method=method, headers={"Origin": PAGE})
        assert answer.status_code >= 400
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    (open_to.store.root / "queue").rmdir()
    answer = open_to.client.get(f"/apiv1/jobs/{JOB_ID}", headers={"Origin": PAGE})
    assert answer.status_code == 503
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE


def test_all_origins_are_let_in_only_without_credentials(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, cors_origins="*")
    for answer in (rest.client.get("/version", headers={"Origin": PAGE}), preflight(rest, "/version", "GET")):
        headers = cors_headers(answer)
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in headers


def test_without_the_setting_nothing_is_said(rest: Rest) -> None:
    assert cors_headers(rest.client.get("/version", headers={"Origin": PAGE})) == {}
    assert cors_headers(preflight(rest, "/version", "GET")) == {}


@pytest.mark.parametrize(
    "origins",
    [
        "example.com",
        "https://example.com/",
        "https://example.com/app",
        "https://Example.com",
        "https://*.example.com",
        "https://example.com:443",
        "http://example.com:80",
        "https://me@example.com",
        "https://example.com, null",
        "https://exa mple.com",
        "https://",
    ],
)
def test_what_no_browser_would_send_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match="UNMIX_CORS_ORIGINS"):
        Settings(cors_origins=origins)


@pytest.mark.parametrize("origin", ["http://[::1]:8080", "https://a.b-c.example:8443", "tauri://localhost", "*"])
def test_every_origin_of_a_browser_can_be_named(origin: str) -> None:
    assert Settings(cors_origins=f" {origin} ,").allowed_origins == {origin}
