"""The table of routes: it is complete, described, and says whose requests wait with the uploads."""

import re
from pathlib import Path

import pytest

from rest_support import Rest
from unmix_rest.http.lanes import Lane
from unmix_rest.routes.table import ROUTES, lane_of

PAGE = Path(__file__).parents[2] / "rest" / "README.md"
JOB = "0" * 64


def in_the_table() -> set[tuple[str, str]]:
    return {(method, route.rule) for route in ROUTES for method in route.methods}


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
    assert described == {(method, rule.replace("<int:", "<")) for method, rule in in_the_table()}


def test_endpoints_are_called_differently() -> None:
    assert len({route.endpoint for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("path", ["/apiv1/separate", "/apiv1/separate/", "//apiv1/separate"])
def test_a_song_waits_with_the_uploads(rest: Rest, path: str) -> None:
    assert lane_of(rest.client.application.url_map, "POST", path) is Lane.UPLOADS
    assert rest.client.post("/" + path.lstrip("/")).status_code == 400  # it is the same route to the application


@pytest.mark.parametrize(
    ("method", "path"),
    [
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
    assert lane_of(rest.client.application.url_map, method, path) is Lane.QUICK
