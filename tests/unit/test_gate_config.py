"""The gate's configuration beside the table of routes and the settings; whether nginx takes it is for test_gate.py."""

import re
from pathlib import Path

import pytest

from unmix.settings import Settings
from unmix_rest.gate import render
from unmix_rest.http.lanes import Lane
from unmix_rest.http.uploads import body_limit_bytes
from unmix_rest.routes.table import ROUTES

JOB = "0" * 64


def config(**settings: object) -> str:
    return render(Settings(**settings), Path("/gate"))  # type: ignore[arg-type]


def in_map(name: str, value: str) -> str | None:
    """Return what a map of the configuration makes of a value; None: the default."""
    (body,) = re.findall(rf"^    map .* \${name} {{\n(.*?)^    }}", config(), re.MULTILINE | re.DOTALL)
    for pattern, result in re.findall(r'"~(.*)" (\S+);', body):
        found = re.search(pattern.replace("(?<", "(?P<"), value)
        if found:
            return str(found.groupdict().get(result.lstrip("$"), result))
    return None


def location_of(path: str) -> str:
    """Return what the configuration says in the location of a path."""
    for pattern, body in re.findall(r"location ~ (\S+) {(.*?)}", config(), re.DOTALL):
        if re.search(pattern, path):
            return str(body)
    return ""


def paths(route_rule: str) -> list[str]:
    path = re.sub(r"<(int:)?index>", "0", route_rule)
    path = re.sub(r"<\w+>", JOB, path)
    return [path, path + "/", "/" + path]


@pytest.mark.parametrize("route", [route for route in ROUTES if route.lane is Lane.UPLOADS], ids=lambda each: each.rule)
def test_what_brings_a_song_may_be_as_large_as_rest_takes_and_is_counted(route) -> None:  # type: ignore[no-untyped-def]
    for path in paths(route.rule):
        assert f"client_max_body_size {body_limit_bytes(Settings().max_upload_mb << 20)};" in location_of(path)
        assert "proxy_request_buffering off;" in location_of(path), "what trickles must not take a place at the gate"
        assert in_map("kind", f"{route.methods[0]} {path}") == "upload"


def test_what_brings_no_song_is_not_counted_as_if_it_did() -> None:
    others = [route for route in ROUTES if route.lane is not Lane.UPLOADS]
    for route in others:
        for path in paths(route.rule):
            assert in_map("kind", f"{route.methods[-1]} {path}") != "upload", route.rule
    assert in_map("kind", "GET /apiv1/jobs") is None


def test_events_are_not_kept_by_the_gate_and_files_are() -> None:
    for path in (f"/apiv1/jobs/{JOB}/events", "/apiv1/events", "/apiv1/events/"):
        assert "proxy_buffering off;" in location_of(path)
        assert in_map("kind", f"GET {path}") is None
    for path in (f"/apiv1/track/{JOB}/vocals.mp3", "/apiv1/track", f"/apiv1/jobs/{JOB}/stems.zip"):
        assert "proxy_buffering" not in location_of(path)
        assert in_map("kind", f"GET {path}") == "download"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", None),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:"),
        ("2001:db8:1:2::6", "2001:db8:1:2:"),
        ("2001:db8:1::6", "2001:db8:1:"),
        ("2001:db8::6", "2001:db8:"),
        ("::1", None),
    ],
)
def test_of_ipv6_the_network_counts(address: str, network: str | None) -> None:
    assert in_map("client", address) == network


def test_a_certificate_comes_with_its_key_or_not_at_all() -> None:
    assert "ssl" not in config()
    told = config(gate_certificate=Path("/c.pem"), gate_certificate_key=Path("/k.pem"))
    assert 'ssl_certificate "/c.pem";' in told
    with pytest.raises(ValueError, match="go together"):
        Settings(gate_certificate=Path("/c.pem"))


def test_no_place_of_the_template_is_left_empty() -> None:
    assert "%" not in config()
