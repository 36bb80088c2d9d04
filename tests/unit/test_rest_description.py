"""The API describes itself: as a document that is valid and whole, as a page, and truly.

That answers are what the document says is looked at wherever a test asks for one (`described_answers.py`).
"""

import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

import pytest
from flask import Response
from openapi_spec_validator import OpenAPIV31SpecValidator

from described_answers import Undescribed, document
from rest_support import DEMO_CARD, SONG, Rest
from support import make_song
from unmix import names
from unmix.access.keys import Scope
from unmix.job import JobStatus
from unmix.outcome import StemFile
from unmix_rest.answer_shapes import Health, Version
from unmix_rest.http.problems import STATUS
from unmix_rest.routes.table import ROUTES

OTHER_SONG = make_song(2, 2)


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return each operation of the document by its method and path."""
    return {
        (method.upper(), path): operation
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
    }


def answers_that_are_no_errors() -> set[tuple[str, int]]:
    return {
        (operation["operationId"], int(status))
        for operation in operations().values()
        for status in operation["responses"]
        if int(status) < 400
    }


def test_the_document_is_valid_openapi_3_1(rest: Rest) -> None:
    served = rest.client.get("/apiv1/openapi.json").json
    assert served["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(served).iter_errors()) == []
    assert served["paths"] == document()["paths"]


def test_the_document_has_every_route_and_no_other() -> None:
    paths = [(route.methods, re.sub(r"<(?:int:|path:)?(\w+)>", r"{\1}", route.rule)) for route in ROUTES]
    assert operations().keys() == {(method, path) for methods, path in paths for method in methods}


def test_every_operation_says_what_it_does_and_who_may_ask() -> None:
    for operation in operations().values():
        assert operation["x-scope"] in list(Scope)
        assert operation["summary"].endswith(".")


def test_operations_are_called_differently() -> None:
    assert len({operation["operationId"] for operation in operations().values()}) == len(operations())


def test_every_code_of_an_error_is_one_that_there_is_and_most_are_told_of_some_route() -> None:
    told = {
        code
        for operation in operations().values()
        for answer in operation["responses"].values()
        for body in answer.get("content", {}).values()
        for code in body.get("schema", {}).get("properties", {}).get("code", {}).get("enum", ())
    }
    assert told == set(STATUS) - {"method_not_allowed"}  # a method that a path has not is no operation
    assert document()["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == sorted(STATUS)


def test_what_we_keep_of_other_versions_is_not_described() -> None:
    schemas = document()["components"]["schemas"].values()
    assert not [schema for schema in schemas if "unknown" in schema.get("properties", {})]


def test_a_field_that_is_not_described_is_noticed(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmix_rest.routes.ops.Health", lambda status: Version(status, "2"))
    with pytest.raises(Undescribed, match="version"):
        rest.client.get("/healthz")
    monkeypatch.setattr("unmix_rest.routes.ops.Health", Health)
    monkeypatch.setattr("unmix_rest.routes.ops.json_answer", lambda view: Response("{}", mimetype="text/html"))
    with pytest.raises(Undescribed, match="text/html"):
        rest.client.get("/healthz")


def test_every_answer_that_is_described_is_given(rest: Rest) -> None:
    client = rest.client
    rest.queue.models.announce(DEMO_CARD)
    _send_in_each_form(rest)
    job_id = _finish_with_everything(rest)
    job, track = f"/apiv1/jobs/{job_id}", f"/apiv1/track/{job_id}/vocals"
    for path in ("", "/parts", "/peaks", "/events"):
        assert client.get(job + path).status_code == 200
    for path in ("/peaks", ""):
        etag = client.get(job + path if path else track).headers["ETag"]
        for headers in ({"Range": "bytes=0-1"}, {"If-None-Match": etag}):
            client.get(job + path if path else track, headers=headers)
            client.get(f"/apiv1/track?hash={job_id}&track=vocals", headers=headers)
    client.get(f"/apiv1/track?hash={job_id}&track=vocals")
    etag = client.get(f"{job}/stems.zip").headers["ETag"]
    client.get(f"{job}/stems.zip", headers={"If-None-Match": etag})
    client.get(f"{job}/events", headers={"Last-Event-ID": f"{job_id}-done"})
    client.post(f"{job}/callbacks/0/redeliver")
    client.get(f"/apiv1/remove/{job_id}/vocals")
    client.delete(f"/apiv1/remove/{job_id}/drums")
    client.get(f"/apiv1/remove/{job_id}")
    client.delete(f"/apiv1/remove/{rest.post_form(OTHER_SONG).json['hash']}")
    for ask in (client.get, client.delete):
        ask(f"/apiv1/remove?hash={rest.post_form(OTHER_SONG).json['hash']}")
    failed = rest.post_form(OTHER_SONG).json["hash"]
    rest.finish(failed, status=JobStatus.FAILED, error_code="undecodable", error="damaged")
    for path in ("queue", "failed", "models", "usage", "jobs", "openapi.json", "docs", "docs.css"):
        assert client.get(f"/apiv1/{path}").status_code == 200
    client.post(f"/apiv1/jobs/{failed}/retry")
    client.post(f"/apiv1/jobs/{failed}/cancel")
    client.delete(f"/apiv1/jobs/{failed}")
    for path in ("/", "/healthz", "/readyz", "/metrics", "/version"):
        client.get(path)
    client.post("/")
    for path in ("/", "/ui", "/static/app.js"):
        etag = client.get(path, headers={"Accept": "text/html"}).headers["ETag"]
        client.get(path, headers={"Accept": "text/html", "If-None-Match": etag})
    for method in ("GET", "POST", "DELETE"):
        client.open("/apiv1/session", method=method)
    elsewhere = {each for each in answers_that_are_no_errors() if each[0] in ("parts_part", "events_batch_events")}
    elsewhere |= {("session_sign_in", 201), ("links_make_link", 201)}  # where keys are wanted
    assert {each for each in client.met if each[1] < 400} == answers_that_are_no_errors() - elsewhere


def _send_in_each_form(rest: Rest) -> None:
    """Send the song in all ways that there are; it is one job."""
    ticket = rest.client.post("/apiv1/uploads").json
    rest.client.open(ticket["url"], method="PUT", data=SONG)
    rest.client.get(ticket["url"])
    callback = {"url": "https://example.com/done"}
    rest.post_json(SONG)
    rest.post_form(SONG)
    rest.client.post("/apiv1/jobs", json={"upload": ticket["upload_id"], "callback": callback, "labels": ["a"]})
    rest.client.post("/apiv1/jobs", json={"file": base64.b64encode(SONG).decode(), "batch": "b"})
    rest.client.post("/apiv1/jobs", data={"file": (BytesIO(SONG), "song.mp3"), "name": "A song"})
    rest.client.post("/apiv1/jobs?labels=a,b", data=SONG, content_type="audio/wav")


def _finish_with_everything(rest: Rest) -> str:
    """Separate the song of which there is a job, peaks and all."""
    job_id = names.hash_song(SONG)
    peaks = json.dumps({"version": 1, "sample_rate": 44_100, "samples_per_pixel": 441, "bits": 8, "stems": {}}).encode()
    name = names.attempt_object(job_id, "a-token", "vocals", "mp3")
    rest.store.put(name, peaks)
    stems = {"vocals": b"some bytes", "drums": b"others"}
    rest.finish(job_id, stems, peaks=StemFile(name.key, len(peaks), names.hash_song(peaks)))
    return job_id


def test_a_file_that_the_client_does_not_mean_is_refused_as_anything_else_is(rest: Rest) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    rest.finish(job_id, {"vocals": b"some bytes"})
    answer = rest.client.get(f"/apiv1/track/{job_id}/vocals", headers={"If-Match": '"another"'})
    assert (answer.status_code, answer.json["code"]) == (412, "precondition_failed")


class _Page(HTMLParser):
    """What a page loads, where its links lead, and what they may lead to within it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name == "href"}
        self.ids |= {value or "" for name, value in attrs if name == "id"}


def test_the_page_has_every_operation_and_needs_no_script(rest: Rest) -> None:
    answer = rest.client.get("/apiv1/docs")
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'"
    page = _Page(answer.text)
    assert {operation["operationId"] for operation in operations().values()} <= page.ids
    assert not page.tags & {"script", "style", "iframe", "img", "object"}
    assert not {name for name in page.attributes if name == "style" or name.startswith("on")}


def test_the_links_of_the_page_lead_into_it_or_to_this_service(rest: Rest) -> None:
    page = _Page(rest.client.get("/apiv1/docs").text)
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside <= page.ids
    others = {link for link in page.links if not link.startswith("#")}
    assert others == {"/apiv1/docs.css", "/apiv1/openapi.json"}
    assert {rest.client.get(link).status_code for link in others} == {200}
