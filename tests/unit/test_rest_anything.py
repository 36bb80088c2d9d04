"""Whatever the API's description allows is served, and what it does not is refused: schemathesis asks, with all checks.

It asks the application itself, over a real queue and a real store, in the same way each time. Songs are put where it
would send noise, as a schema cannot say what a song is.
"""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from flask import Flask
from schemathesis import engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events

from rest_support import SONG
from unmix.queue.job_queue import JobQueue
from unmix.settings import Settings
from unmix.store.file import FileStore
from unmix_rest.app import create_app
from unmix_rest.live import Live

#: What a request may be answered with that the description allows, but for a broken service.
_USUAL: Final = ["2xx", "3xx", "404", "409"]
#: Where more is right, as no schema can say what the error tells:
_MORE: Final[Mapping[str, list[str]]] = {
    # whether bits go with the format, a region with the song, a callback's host is public; whether the text of a
    # callback in the query or a form is JSON, and a model has such a stem (400); whether songs are fetched (403);
    # whether a song is one (415), or too large (413).
    "POST /apiv1/jobs": ["400", "403", "413", "415", "422"],
    "POST /apiv1/separate": ["400", "413", "415", "422"],
    # whether a piece is as long as its Content-Range says (400), and not too small.
    "PUT /apiv1/uploads/{upload_id}": ["400", "413", "422"],
    "POST /apiv1/uploads": ["413"],
    # whether the file has such a range, and is the one that If-Match names.
    "GET /apiv1/jobs/{job_id}/peaks": ["412", "416"],
    "GET /apiv1/jobs/{job_id}/parts/{index}/{stem}": ["412", "416"],
    # The same; and the contract of older clients has 400 for a stem that a job cannot have.
    "GET /apiv1/track/{job_id}/{track}": ["400", "412", "416"],
    "GET /apiv1/track": ["400", "412", "416"],
    "GET /apiv1/remove/{job_id}/{track}": ["400"],
    "DELETE /apiv1/remove/{job_id}/{track}": ["400"],
    "GET /apiv1/remove": ["400"],
    "DELETE /apiv1/remove": ["400"],
}
#: Where each event would be held against the description of the whole stream.
_STREAMS: Final = ["GET /apiv1/jobs/{job_id}/events", "GET /apiv1/events"]
#: They have so many fields, and each song takes so long to be checked, that all borders of them are for the long run.
_MANY: Final = ["POST /apiv1/jobs", "POST /apiv1/separate"]


@pytest.fixture
def app(tmp_path: Path, redis_url: str) -> Iterator[Flask]:
    """The application as it ends: nobody who waits or watches is kept."""
    store = FileStore(tmp_path / "store")
    store.prepare()
    with JobQueue(redis_url) as queue:
        live = Live(queue)
        live.stop()
        settings = Settings(model="demo", models="htdemucs", max_song_seconds=60)
        schemathesis.hook("before_call")(_with_a_song)
        yield create_app(settings, queue, store, live)
        schemathesis.hooks.unregister(_with_a_song)


def test_what_is_described_is_so(app: Flask) -> None:
    assert list(_failures(app, examples=2, steps=4, skip_borders_of=_MANY)) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_is_described_is_so_at_length(app: Flask) -> None:
    assert list(_failures(app, examples=60, steps=8)) == []


def _failures(app: Flask, *, examples: int, steps: int, skip_borders_of: list[str] | None = None) -> Iterator[str]:
    """Ask, and yield what each request was that failed a check, and why."""
    operations: list[dict[str, Any]] = [
        {"include-name": name, "checks": {"positive_data_acceptance": {"expected-statuses": [*_USUAL, *more]}}}
        for name, more in _MORE.items()
    ]
    operations += [
        {"include-name": name, "checks": {"response_schema_conformance": {"enabled": False}}} for name in _STREAMS
    ]
    for operation in operations:
        if operation["include-name"] in (skip_borders_of or ()):
            operation["phases"] = {"coverage": {"enabled": False}}
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "continue-on-failure": True,
            "generation": {"deterministic": True, "max-examples": examples, "database": "none"},
            "phases": {"stateful": {"max-steps": steps}},
            # A job that was removed by the route of older clients would count as one that was just made.
            "checks": {"ensure_resource_availability": {"enabled": False}},
            "operations": operations,
        }
    )
    schema = schemathesis.openapi.from_wsgi("/apiv1/openapi.json", app, config=config)
    asked = 0
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            yield repr(event)
        if not isinstance(event, events.ScenarioFinished):
            continue
        for case_id, checks in event.recorder.checks.items():
            asked += 1
            for check in checks:
                if check.failure_info:
                    failure = check.failure_info.failure
                    case = event.recorder.cases[case_id].value
                    said = f"{failure.title}: {failure.message}: {check.failure_info.code_sample}"
                    yield f"{event.phase.name}: {case.operation.label}: {check.name}: {said[:800]}"
    assert asked > 500


def _with_a_song(context: object, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Put a song into what is meant to be accepted; an option may stand in one place only."""
    if case.meta is None or not case.meta.generation.mode.is_positive or case.operation.label not in _MANY:
        return
    if not isinstance(case.body, dict):
        case.body = SONG
        return
    fields: dict[str, Any] = case.body
    for name in {"file", "mp3"} & fields.keys():
        fields[name] = SONG if case.media_type == "multipart/form-data" else base64.b64encode(SONG).decode()
    for name in fields.keys() & (case.query or {}).keys():
        del case.query[name]
