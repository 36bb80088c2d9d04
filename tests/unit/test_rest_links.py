"""Links: the owner of a key lets others see and hear one job, for a while, and nothing else."""

import time
from pathlib import Path
from typing import Any

import pytest

from rest_support import SONG, Answer, Client, Rest
from support import make_song
from unmix.access.keyring import Keyring
from unmix.access.keys import USUAL, Scope
from unmix.access.seals import Link, Seals, Session
from unmix.names import hash_song
from unmix_rest.routes.table import ROUTES

JOB_ID = hash_song(SONG)
JOB = f"/apiv1/jobs/{JOB_ID}"


@pytest.fixture
def guarded(tmp_path: Path, redis_url: str) -> Rest:
    """A service that wants keys, with a job that is done."""
    rest = Rest(tmp_path, redis_url, auth="keys")
    rest.client.post("/apiv1/jobs", data=SONG, content_type="audio/wav", headers=said(make(rest)))
    rest.finish(JOB_ID, {"vocals": b"some bytes"})
    return rest


def make(rest: Rest, name: str = "anna", *scopes: str, expires_at: float | None = None) -> str:
    return Keyring(rest.store).create(name, scopes=scopes or USUAL, tenant="main", expires_at=expires_at)[1]


def said(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def link_from(rest: Rest, key: str, **body: Any) -> Answer:
    return rest.client.post(f"{JOB}/links", json=body, headers=said(key))


def code(answer: Answer) -> tuple[int, Any]:
    return answer.status_code, (answer.json or {}).get("code")


@pytest.fixture
def link(guarded: Rest) -> str:
    return str(link_from(guarded, make(guarded, "giver")).json["link"])


def test_whoever_has_a_link_sees_and_hears_that_job(guarded: Rest) -> None:
    given = link_from(guarded, make(guarded, "giver"))
    assert given.status_code == 201
    stranger = Client(guarded.client.application)
    view = stranger.get(given.json["url"])
    assert (view.status_code, view.json["status"]) == (200, "done")
    link = given.json["link"]
    stem = stranger.get(f"{view.json['stems']['vocals']['url']}?link={link}")
    assert (stem.status_code, stem.data) == (200, b"some bytes")
    for path in ("/stems.zip", "/events", "/parts"):
        assert stranger.get(f"{JOB}{path}?link={link}").status_code == 200
    assert stranger.get(f"{JOB}?link={link}").status_code == 200
    assert code(stranger.get(JOB)) == (401, "key_required")  # nothing is kept of it


def test_a_link_opens_what_reads_its_job_and_nothing_else(guarded: Rest, link: str) -> None:
    stranger = Client(guarded.client.application)
    opened = {route.rule for route in ROUTES if route.takes_links}
    assert opened == {
        *(f"/apiv1/jobs/<job_id>{path}" for path in ("", "/events", "/parts", "/peaks", "/stems.zip")),
        *("/apiv1/jobs/<job_id>/parts/<int:index>/<stem>", "/apiv1/track/<job_id>/<track>"),
    }
    for method, path in (
        *(("DELETE", JOB), ("POST", f"{JOB}/cancel"), ("POST", f"{JOB}/retry"), ("POST", f"{JOB}/links")),
        *(("GET", f"/apiv1/remove/{JOB_ID}"), ("GET", "/apiv1/jobs"), ("GET", "/apiv1/queue"), ("GET", "/metrics")),
        ("GET", f"/apiv1/track?hash={JOB_ID}&track=vocals"),
    ):
        separator = "&" if "?" in path else "?"
        answer = stranger.open(f"{path}{separator}link={link}", method=method)
        assert code(answer) == (401, "key_required"), path
    assert guarded.client.get(JOB, headers=said(make(guarded, "ben"))).status_code == 200


def test_a_link_is_for_one_job(guarded: Rest, link: str) -> None:
    other = guarded.client.post(
        "/apiv1/jobs", data=make_song(2, 7), content_type="audio/wav", headers=said(make(guarded, "ben"))
    ).json["hash"]
    for job_id in (other, "0" * 64, f"{JOB_ID}.00000000", "x"):
        assert code(guarded.client.get(f"/apiv1/jobs/{job_id}?link={link}")) == (403, "bad_link")


def test_what_is_no_link_is_refused(guarded: Rest, link: str) -> None:
    key_hash = Keyring(guarded.store).all()[0].key_hash
    session = Seals(guarded.store).of_session(Session(key_hash, 1 << 40))
    over = Seals(guarded.store).of_link(Link(JOB_ID, key_hash, 1))
    for forged in ("", "x", link[:-1], f"{link}x", session, over, "%00", "é"):
        assert code(guarded.client.get(JOB, query_string={"link": forged})) == (403, "bad_link")


def test_a_link_is_no_session(guarded: Rest, link: str) -> None:
    stranger = Client(guarded.client.application)
    answer = stranger.get(JOB, headers={"Cookie": f"unmix_session={link}"})
    assert code(answer) == (401, "key_required")


def test_a_link_ends_with_the_key_of_whoever_gave_it(guarded: Rest, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert guarded.client.get(f"{JOB}?link={link}").status_code == 200
    Keyring(guarded.store).revoke("giver")
    monkeypatch.setattr("unmix.access.known_keys.KNOWN_SECONDS", 0)
    assert code(guarded.client.get(f"{JOB}?link={link}")) == (403, "bad_link")


def test_a_link_holds_for_as_long_as_is_said_and_not_beyond_the_key(guarded: Rest) -> None:
    hour = link_from(guarded, make(guarded, "giver"), hours=1).json["expires_at"]
    week = link_from(guarded, make(guarded, "ben")).json["expires_at"]
    assert hour < week
    short = make(guarded, "short", expires_at=4_000_000_000.0)
    assert link_from(guarded, short, hours=8760).json["expires_at"] < "2096-10-02T07:06:40+00:00"
    soon = make(guarded, "soon", expires_at=time.time() + 60)
    assert link_from(guarded, soon).json["expires_at"] < hour


@pytest.mark.parametrize("hours", [0, -1, 8761, "1", True, [], {}])
def test_a_time_that_is_none_is_refused(guarded: Rest, hours: Any) -> None:
    assert code(link_from(guarded, make(guarded, "giver"), hours=hours)) == (422, "invalid_field")


def test_only_who_may_read_gives_a_link_and_only_to_what_there_is(guarded: Rest) -> None:
    assert code(link_from(guarded, make(guarded, "sender", Scope.SUBMIT))) == (403, "scope_missing")
    answer = guarded.client.post(f"/apiv1/jobs/{'0' * 64}/links", headers=said(make(guarded, "giver")))
    assert code(answer) == (404, "not_found")


def test_where_there_are_no_keys_there_is_no_need_of_links(rest: Rest) -> None:
    rest.post_form(SONG)
    assert code(rest.client.post(f"{JOB}/links")) == (409, "no_keys")
    assert rest.client.get(f"{JOB}?link=x").status_code == 200
