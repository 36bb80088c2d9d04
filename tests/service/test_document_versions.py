"""Documents across versions: what another version wrote is read, and what it alone knows is kept."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from unmix import names
from unmix.document import SCHEMA, Growable
from unmix.job import Callback, DamagedRequest, JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import Ledger
from unmix.outcome import DamagedOutcome, Delivery, Music, Outcome, Ran, StemFile
from unmix.store.file import FileStore

JOB = names.hash_song(b"a song")
REQUEST = JobRequest(
    JOB,
    SeparationOptions("demo", stems=("vocals",), weights_sha256="aa"),
    "2026-01-01T00:00:00.000+00:00",
    callbacks=(Callback("http://a", {"number": 1}),),
    generation="0123456789abcdef",
    duration_seconds=1.5,
    warnings=("mono",),
)
OUTCOME = Outcome(
    JOB,
    REQUEST.generation,
    JobStatus.DONE,
    "2026-01-01T00:01:00.000+00:00",
    token="t1",
    attempt=1,
    worker="worker-1",
    stems={"vocals": StemFile(f"{JOB}/t1/vocals.mp3", 5, "00")},
    ran=Ran("demo", "aa", "cpu", 44_100, 1.5, 0.5),
    deliveries={"0": Delivery(True, "2026-01-01T00:01:01.000+00:00", 1)},
)
#: What d81cb97 wrote of the two, before documents had a number.
FIRST_REQUEST = (
    b'{"callbacks": [{"data": {"number": 1}, "url": "http://a"}], "duration_seconds": 1.5, '
    b'"generation": "0123456789abcdef", "job_id": "%(job)s", "options": {"format": "mp3", '
    b'"mixture_consistency": false, "model": "demo", "stems": ["vocals"], "weights_sha256": "aa"}, '
    b'"submitted_at": "2026-01-01T00:00:00.000+00:00", "warnings": ["mono"]}'
).replace(b"%(job)s", JOB.encode())
FIRST_OUTCOME = (
    b'{"attempt": 1, "deliveries": {"0": {"at": "2026-01-01T00:01:01.000+00:00", "delivered": true, "error": null, '
    b'"tries": 1}}, "error": null, "error_code": null, "finished_at": "2026-01-01T00:01:00.000+00:00", '
    b'"format": "mp3", "generation": "0123456789abcdef", "job_id": "%(job)s", "ran": {"backend": "", "device": "cpu", '
    b'"duration_seconds": 1.5, "model": "demo", "precision": "", "processing_seconds": 0.5, "sample_rate": 44100, '
    b'"weights_sha256": "aa"}, "status": "done", "stems": {"vocals": {"key": "%(job)s/t1/vocals.mp3", "sha256": "00", '
    b'"size_bytes": 5}}, "token": "t1", "warnings": [], "worker": "worker-1"}'
).replace(b"%(job)s", JOB.encode())


def grown(value: Any) -> Any:
    """Return a document as a later version may write it: one more field in each object, and a higher number."""
    if isinstance(value, list):
        return [grown(each) for each in value]
    if not isinstance(value, dict):
        return value
    fields = {key: each if key == "data" else grown(each) for key, each in value.items()}  # the client's own
    if "schema" in fields:
        fields["schema"] += 1
    is_map = not fields or all(isinstance(each, dict) for each in fields.values())  # of stems, or of deliveries
    return fields if is_map else {**fields, "of_tomorrow": {"deep": [1]}}


def of_tomorrow(document: JobRequest | Outcome) -> bytes:
    return json.dumps(grown(json.loads(document.to_json()))).encode()


def test_documents_of_the_first_version_are_read() -> None:
    assert JobRequest.from_json(FIRST_REQUEST) == replace(REQUEST, schema=0)
    assert Outcome.from_json(FIRST_OUTCOME) == replace(OUTCOME, schema=0)


def test_a_request_of_before_there_were_tenants_is_the_main_ones_and_its_id_tells_its_song() -> None:
    request = JobRequest.from_json(FIRST_REQUEST)
    assert (request.tenant, request.wanted_sha256) == (names.MAIN_TENANT, JOB)


def test_documents_carry_the_number_of_their_form() -> None:
    assert json.loads(REQUEST.to_json())["schema"] == json.loads(OUTCOME.to_json())["schema"] == SCHEMA


OF_A_TENANT = replace(REQUEST, tenant="choir", song_sha256="00" * 32)
TRACED = replace(REQUEST, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
HEARD = replace(OUTCOME, music=Music("A minor", 0.8, None, 0.0))


@pytest.mark.parametrize("document", [REQUEST, OF_A_TENANT, TRACED, OUTCOME, HEARD])
def test_what_only_a_later_version_knows_is_ignored_and_kept(document: JobRequest | Outcome) -> None:
    data = of_tomorrow(document)
    assert b"of_tomorrow" in data
    read = type(document).from_json(data)
    assert replace(read, schema=SCHEMA) == document
    assert json.loads(read.to_json()) == json.loads(data)


def test_what_this_version_writes_can_be_read_by_a_later_one() -> None:
    """A later version adds fields that have a default, as this one did."""

    @dataclass(frozen=True, slots=True)
    class LaterStem(StemFile):
        peaks: tuple[int, ...] = ()

    assert LaterStem.from_fields(OUTCOME.stems["vocals"].to_fields()).peaks == ()
    for kind in (SeparationOptions, Callback, Ran, Delivery, StemFile, Music):
        assert issubclass(kind, Growable)


def test_a_callback_added_by_this_version_keeps_what_a_later_one_asked_for(ledger: Ledger, store: FileStore) -> None:
    store.put(names.request_object(JOB), of_tomorrow(REQUEST))
    accepted, is_new = ledger.accept(replace(REQUEST, generation="another", callbacks=(Callback("http://b"),)))
    assert not is_new
    assert [callback.url for callback in accepted.callbacks] == ["http://a", "http://b"]
    written = json.loads(store.get(names.request_object(JOB))[0])
    assert written["of_tomorrow"] == written["callbacks"][0]["of_tomorrow"] == {"deep": [1]}
    assert written["options"]["of_tomorrow"] == {"deep": [1]}
    assert written["schema"] == SCHEMA + 1


def test_a_retry_by_this_version_keeps_what_a_later_one_asked_for(ledger: Ledger, store: FileStore) -> None:
    store.put(names.request_object(JOB), of_tomorrow(REQUEST))
    ledger.commit(replace(OUTCOME, status=JobStatus.FAILED, stems={}))
    again = ledger.retry(JOB)
    assert again is not None
    assert again.generation != REQUEST.generation
    assert json.loads(store.get(names.request_object(JOB))[0])["of_tomorrow"] == {"deep": [1]}


def test_a_delivery_noted_by_this_version_keeps_what_a_later_one_wrote(ledger: Ledger, store: FileStore) -> None:
    store.put(names.request_object(JOB), REQUEST.to_json())
    store.put(names.outcome_object(JOB), of_tomorrow(OUTCOME))
    ledger.note_delivery(JOB, REQUEST.generation, 1, Delivery(False, "2026-01-02T00:00:00+00:00", 9, "no"))
    written = json.loads(store.get(names.outcome_object(JOB))[0])
    assert written["of_tomorrow"] == written["ran"]["of_tomorrow"] == {"deep": [1]}
    assert written["stems"]["vocals"]["of_tomorrow"] == {"deep": [1]}
    assert set(written["deliveries"]) == {"0", "1"}


@pytest.mark.parametrize(("delivered", "state"), [(True, "delivered"), (False, "given_up")])
def test_a_delivery_noted_by_an_earlier_version_tells_how_it_ended(delivered: bool, state: str) -> None:
    noted = Delivery.from_fields({"delivered": delivered, "at": "2026-01-02T00:00:00+00:00", "tries": 1, "error": None})
    assert (noted.ended_as, noted.http_status) == (state, None)


def test_a_request_of_a_later_version_is_owed_and_ended_by_this_one(ledger: Ledger, store: FileStore) -> None:
    store.put(names.request_object(JOB), of_tomorrow(REQUEST))
    assert ledger.commit(OUTCOME) == OUTCOME
    request, outcome = ledger.end(JOB)
    assert (request, outcome) == (replace(REQUEST, schema=SCHEMA + 1), OUTCOME)


def with_field(document: JobRequest | Outcome, path: str, value: Any) -> bytes:
    """Return the document with another value at `path`, such as `stems.vocals.key`."""
    fields = json.loads(document.to_json())
    *parents, last = path.split(".")
    inner = fields
    for parent in parents:
        inner = inner[int(parent)] if isinstance(inner, list) else inner[parent]
    inner[last] = value
    return json.dumps(fields).encode()


#: Of no field the right kind: another type, half of a character, no number.
NOTHING_RIGHT = (True, [5], {"a": 5}, "\ud800", float("nan"), float("inf"))


@pytest.mark.parametrize(
    "path", ["generation", "submitted_at", "options", "options.model", "callbacks", "callbacks.0.url", "schema"]
)
def test_a_request_with_a_field_of_the_wrong_kind_is_damaged(ledger: Ledger, store: FileStore, path: str) -> None:
    for value in (None, *NOTHING_RIGHT):
        store.put(names.request_object(JOB), with_field(REQUEST, path, value))
        assert isinstance(ledger.request(JOB), DamagedRequest), repr(value)


@pytest.mark.parametrize(
    "path",
    ["generation", "token", "format", "error_code", "stems", "stems.vocals.key", "stems.vocals.size_bytes", "ran"],
)
def test_an_outcome_with_a_field_of_the_wrong_kind_is_damaged(ledger: Ledger, store: FileStore, path: str) -> None:
    leads_elsewhere = ("../x", "a/b") if path in ("token", "format", "stems.vocals.key") else ()
    for value in (*NOTHING_RIGHT, *leads_elsewhere):
        store.put(names.outcome_object(JOB), with_field(OUTCOME, path, value))
        assert isinstance(ledger.outcome(REQUEST), DamagedOutcome), repr(value)


@pytest.mark.parametrize("stem", ["../../x", "", "Vocals", "a/b", "\x00"], ids=repr)
def test_an_outcome_that_names_a_stem_as_none_can_be_named_is_damaged(
    ledger: Ledger, store: FileStore, stem: str
) -> None:
    store.put(names.request_object(JOB), REQUEST.to_json())
    store.put(names.outcome_object(JOB), with_field(OUTCOME, "stems", {stem: OUTCOME.stems["vocals"].to_fields()}))
    assert isinstance(ledger.outcome(REQUEST), DamagedOutcome)
