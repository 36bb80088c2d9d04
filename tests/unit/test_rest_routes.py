"""The table of routes: it is complete, described, and says whose requests wait with the uploads."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from rest_support import Rest
from unmix_rest.http.lanes import Lane
from unmix_rest.routes.table import ROUTES, lanes_of

PAGE = Path(__file__).parents[2] / "rest" / "README.md"
JOB = "0" * 64


def in_the_table() -> set[tuple[str, str]]:
    return {(method, route.rule) for route in ROUTES for method in route.methods}


def lanes(rest: Rest, method: str, path: str, *, query: str = "", prefer: str = "") -> tuple[Lane, ...]:
    """The lanes of a request as waitress reads it."""
    request = SimpleNamespace(command=method, path=path, query=query, headers={"PREFER": prefer} if prefer else {})
    return lanes_of(rest.client.application.url_map, request)


def test_the_application_answers_what_the_table_says_and_nothing_else(rest: Rest) -> None:
    answered = {
        (method, rule.rule)
        for rule in rest.client.application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert answered == in_the_table()


def test_the_page_describes_every_route_and_no_other() -> None:
    section = PAGE.read_text().partition("## Routes")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = re.findall(r"`([A-Z, ]+) (/[^`?]*)[^`]*`", " ".join(rows))
    described = {
        (method, path.replace("<hash>", "<job_id>")) for methods, path in listed for method in methods.split(", ")
    }
    assert described == {(method, re.sub("<(int|path):", "<", rule)) for method, rule in in_the_table()}


def test_endpoints_are_called_differently() -> None:
    assert len({route.endpoint for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("path", ["/apiv1/separate", "/apiv1/separate/", "//apiv1/separate"])
def test_a_song_waits_with_the_uploads(rest: Rest, path: str) -> None:
    assert lanes(rest, "POST", path) == (Lane.UPLOADS,)
    assert rest.client.post("/" + path.lstrip("/")).status_code == 400  # it is the same route to the application


def test_a_piece_of_a_song_waits_with_the_uploads(rest: Rest) -> None:
    assert lanes(rest, "PUT", "/apiv1/uploads/any") == (Lane.UPLOADS,)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/apiv1/uploads"),
        ("GET", "/apiv1/uploads/any"),
        ("HEAD", "/apiv1/uploads/any"),
        ("POST", f"/apiv1/jobs/{JOB}/cancel"),
        ("POST", f"/apiv1/jobs/{JOB}/retry"),
        ("GET", f"/apiv1/jobs/{JOB}"),
        ("POST", "/"),
        ("GET", "/apiv1/separate"),
        ("BREW", "/apiv1/separate"),
        ("POST", "/apiv1//separate"),
        ("POST", "/apiv1/no-such-route"),
        ("POST", "/apiv1/\xff"),
        ("POST", ""),
    ],
)
def test_what_carries_no_song_does_not_wait_with_the_uploads(rest: Rest, method: str, path: str) -> None:
    assert lanes(rest, method, path) == (Lane.QUICK,)


@pytest.mark.parametrize(
    "path",
    [
        f"/apiv1/jobs/{JOB}/events",
        f"/apiv1/jobs/{JOB}/events/",
        "/apiv1/events",
        f"/apiv1/jobs/{JOB}/stems.zip",
        f"//apiv1/jobs/{JOB}/stems.zip/",
        f"/apiv1/track/{JOB}/vocals.mp3",
        "/apiv1/track",
    ],
)
def test_who_watches_or_fetches_stems_stays(rest: Rest, path: str) -> None:
    assert lanes(rest, "GET", path, query="batch=x") == (Lane.STAYING,)


@pytest.mark.parametrize("waiting", [{"query": "wait=30"}, {"prefer": "respond-async, Wait=30"}])
def test_who_waits_for_a_job_stays_if_there_is_room(rest: Rest, waiting: dict[str, str]) -> None:
    assert lanes(rest, "GET", f"/apiv1/jobs/{JOB}", **waiting) == (Lane.STAYING, Lane.QUICK)
    assert lanes(rest, "POST", "/apiv1/jobs", **waiting) == (Lane.STAYING, Lane.UPLOADS)
    assert lanes(rest, "POST", "/apiv1/separate", **waiting) == (Lane.UPLOADS,)
    assert lanes(rest, "GET", "/healthz", **waiting) == (Lane.QUICK,)
