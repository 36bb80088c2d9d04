"""`POST /apiv1/jobs`: a song in any of three forms, with a name, labels and a batch; and what becomes of these."""

import base64
import re
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from rest_support import DEMO_CARD, SONG, Answer, Rest
from unmix.job import JobStatus
from unmix.names import hash_song

JOB_ID = hash_song(SONG)
STEMS = {"vocals": b"voice", "drums": b"drums"}


def send(rest: Rest, *, headers: dict[str, str] | None = None, **query: str) -> Answer:
    """Send the song as it is."""
    return rest.client.post(
        "/apiv1/jobs", data=SONG, content_type="application/octet-stream", query_string=query, headers=headers
    )


def send_form(rest: Rest, *, file_name: str = "song.mp3", **fields: str) -> Answer:
    return rest.client.post("/apiv1/jobs", data={"file": (BytesIO(SONG), file_name), **fields})


def send_json(rest: Rest, **fields: Any) -> Answer:
    return rest.client.post("/apiv1/jobs", json={"file": base64.b64encode(SONG).decode(), **fields})


@pytest.mark.parametrize("form", [send, send_form, send_json])
def test_a_song_in_each_form_is_the_same_job(rest: Rest, form: Any) -> None:
    answer = form(rest)
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/apiv1/jobs/{JOB_ID}"
    assert answer.json == rest.client.get(answer.headers["Location"]).json
    assert (answer.json["hash"], answer.json["status"], answer.json["position"]) == (JOB_ID, "queued", 1)


@pytest.mark.parametrize("form", [send, send_form, send_json])
def test_options_go_with_each_form(rest: Rest, form: Any) -> None:
    rest.queue.models.announce(DEMO_CARD)
    answer = form(rest, format="flac", stems="vocals,instrumental", bits="24", start="0.5")
    options = answer.json["options"]
    assert (options["format"], options["bits"], options["start"]) == ("flac", 24, 0.5)
    assert options["stems"] == ["vocals", "instrumental"]


@pytest.mark.parametrize("form", [send, send_form, send_json])
def test_how_a_song_is_computed_and_encoded_goes_with_each_form(rest: Rest, form: Any) -> None:
    job = form(rest, bitrate_kbps="192", precision="exact", overlap="0.5", shifts="2").json
    said = [job["options"][name] for name in ("bitrate_kbps", "precision", "overlap", "shifts")]
    assert said == [192, "exact", 0.5, 2]
    assert job["warnings"] == []
    assert job["hash"].startswith(f"{JOB_ID}.")
    assert send(rest, bitrate_kbps="192", precision="exact", overlap="0.50", shifts="2").json["hash"] == job["hash"]


@pytest.mark.parametrize("content_type", ["audio/mpeg", "application/x-www-form-urlencoded", "text/plain", None])
def test_what_is_no_json_is_a_song_whatever_its_type(rest: Rest, content_type: str | None) -> None:
    assert rest.client.post("/apiv1/jobs", data=SONG, content_type=content_type).json["hash"] == JOB_ID


def test_json_is_json_whatever_its_type(rest: Rest) -> None:
    body = b' {"file": "' + base64.b64encode(SONG) + b'"}'
    assert rest.client.post("/apiv1/jobs", data=body, content_type="audio/mpeg").json["hash"] == JOB_ID


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "audio/mpeg", 422, "empty_audio"),
        (b"no song", "audio/mpeg", 415, "not_audio"),
        (b"no song", "application/json", 400, "invalid_json"),
        (b"{}", "application/json", 422, "missing_field"),
        (b'{"mp3": "aa"}', "application/json", 422, "missing_field"),
        (b'{"file": 1}', "application/json", 422, "invalid_field"),
    ],
)
def test_what_is_no_song_is_refused(rest: Rest, body: bytes, content_type: str, status: int, code: str) -> None:
    answer = rest.client.post("/apiv1/jobs", data=body, content_type=content_type)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert rest.stored() == []


def test_a_song_that_is_too_large_is_refused(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, max_upload_mb=1)
    answer = rest.client.post("/apiv1/jobs", data=bytes((1 << 20) + 1), content_type="audio/mpeg")
    assert (answer.status_code, answer.json["code"]) == (413, "payload_too_large")
    assert "1 MiB" in answer.json["detail"]
    assert "UNMIX_MAX_UPLOAD_MB" in answer.json["detail"]


@pytest.mark.parametrize(
    "disposition",
    [
        'attachment; filename="Grün.mp3"'.encode().decode("latin-1"),  # as it arrives when a client writes UTF-8
        "attachment; filename*=UTF-8''Gr%C3%BCn.mp3",
        "attachment; filename*=UTF-8''%2Fmusic%2FGr%C3%BCn.mp3",
    ],
)
def test_a_song_as_it_is_has_its_name_in_a_header(rest: Rest, disposition: str) -> None:
    assert send(rest, headers={"Content-Disposition": disposition}).json["name"] == "Grün.mp3"


def test_a_form_names_the_song_by_its_file_unless_the_name_is_given(rest: Rest) -> None:
    assert send_form(rest, file_name="C:\\music\\a/b.mp3").json["name"] == "b.mp3"
    assert send_form(rest, format="wav", name="My song").json["name"] == "My song"


def test_a_job_without_a_name_has_none_until_somebody_gives_it_one(rest: Rest) -> None:
    assert send(rest).json["name"] is None
    assert send(rest, name="Song").json["name"] == "Song"
    assert send(rest, name="Another").json["name"] == "Song"


@pytest.mark.parametrize(
    "name", ["💃🏽.mp3", "שיר‏ \u202egnos", "a\x00b\r\nc\t", "<b>&amp;\"'\\/", "ﬀ" * 300, "é" * 1000, ".", "＂"]
)
def test_any_name_is_kept_as_it_was_sent_and_fit_for_a_file_where_it_is_saved(rest: Rest, name: str) -> None:
    rest.queue.models.announce(DEMO_CARD)
    assert send_json(rest, name=name).json["name"] == name
    rest.finish(JOB_ID, STEMS)
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["name"] == name
    answer = rest.client.get(f"/apiv1/track/{JOB_ID}/vocals.mp3")
    assert (answer.status_code, answer.data) == (200, b"voice")
    header = answer.headers["Content-Disposition"]
    plain = re.fullmatch(r'attachment; filename="([ !#-.0-\[\]-~]+)"(?:; filename\*=UTF-8\'\'([!-~]+))?', header)
    assert plain, header
    saved = unquote(plain[2] or plain[1])
    assert saved.endswith("vocals.mp3")
    assert len(saved.encode()) <= 255
    assert not re.search("[\x00-\x1f/\\\\\u202e\u200f]", saved)


@pytest.mark.parametrize(
    ("name", "saved"), [("Song.MP3", "Song - vocals.mp3"), ("No. 5", "No. 5 - vocals.mp3"), (" .mp3", "vocals.mp3")]
)
def test_a_stem_is_saved_under_the_name_of_the_song(rest: Rest, name: str, saved: str) -> None:
    send(rest, name=name)
    rest.finish(JOB_ID, STEMS)
    answer = rest.client.get(f"/apiv1/track/{JOB_ID}/vocals")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{saved}"'


def test_to_older_clients_a_stem_is_called_as_ever(rest: Rest) -> None:
    rest.post_form(SONG, name="song.mp3")
    rest.finish(JOB_ID, STEMS)
    answer = rest.client.get(f"/apiv1/track/{JOB_ID}/vocals")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="vocals.mp3"'


@pytest.mark.parametrize("extension", ["wav", "flac"])
def test_a_stem_is_not_there_in_another_format(rest: Rest, extension: str) -> None:
    send(rest)
    rest.finish(JOB_ID, STEMS)
    assert rest.client.get(f"/apiv1/track/{JOB_ID}/drums.{extension}").status_code == 404
    assert rest.client.delete(f"/apiv1/remove/{JOB_ID}/drums.{extension}").status_code == 404
    assert rest.client.get(f"/apiv1/track/{JOB_ID}/drums.mp3").data == b"drums"


def test_labels_and_batches_add_up(rest: Rest) -> None:
    first = send_form(rest, labels="choir, 2026,,choir", batch="monday").json
    assert (first["labels"], first["batches"]) == (["choir", "2026"], ["monday"])
    second = send_json(rest, labels=["2026", "a,b"], batch="tuesday").json
    assert (second["labels"], second["batches"]) == (["choir", "2026", "a,b"], ["monday", "tuesday"])
    assert rest.queue.views.waiting(limit=9) == ([JOB_ID], 1)
    for number in range(20):
        view = send(rest, batch=f"batch {number}").json
    assert view["batches"] == [f"batch {number}" for number in range(4, 20)]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 1},
        {"name": "é" * 1001},
        {"labels": 1},
        {"labels": [1]},
        {"labels": [str(number) for number in range(17)]},
        {"labels": ["é" * 101]},
        {"batch": ["a"]},
        {"batch": "é" * 101},
    ],
)
def test_names_labels_and_batches_have_bounds(rest: Rest, fields: dict[str, Any]) -> None:
    answer = send_json(rest, **fields)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_field")
    assert rest.stored() == []


def test_fields_that_nobody_knows_are_told(rest: Rest) -> None:
    answer = send_json(rest, formt="wav", **{"x" * 100: 1})
    assert answer.json["warnings"] == [
        *("unknown field, ignored: formt; there is format", f"unknown field, ignored: {'x' * 64}")
    ]
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["warnings"] == []
    assert len(send_json(rest, **{f"x{number}": 1 for number in range(99)}).json["warnings"]) == 10


def test_older_clients_are_told_too(rest: Rest) -> None:
    warnings = rest.post_json(SONG, songhash="a", labels=["b"]).json["warnings"]
    assert warnings == ["unknown field, ignored: labels"]
    warnings = rest.post_form(SONG, stem="vocals", bitrate="320").json["warnings"]
    assert [warning.partition(": ")[2] for warning in warnings] == [
        *("bitrate; there is bitrate_kbps", "stem; there is stems")
    ]


@pytest.mark.parametrize("query", ["format=wav&format=mp3", "format=wav"])
def test_a_field_stands_once_in_body_and_url(rest: Rest, query: str) -> None:
    answer = rest.client.post(f"/apiv1/jobs?{query}", data={"file": (BytesIO(SONG), "a"), "format": "wav"})
    assert (answer.status_code, answer.json["code"]) == (400, "duplicate_key")


def test_a_callback_that_may_not_be_called_is_an_error(rest: Rest) -> None:
    for answer in (
        send_form(rest, callback='{"url": "http://localhost:5000"}'),
        send_json(rest, callback={"url": "http://localhost:5000"}),
    ):
        assert (answer.status_code, answer.json["code"]) == (422, "callback_forbidden")
        assert "its operator can allow it by UNMIX_CALLBACK_ALLOW" in answer.json["detail"]


def test_a_callback_that_is_a_bare_url_is_answered_with_how_to_say_it(rest: Rest) -> None:
    answer = send_form(rest, callback="https://example.com/done")
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_json")
    assert answer.json["detail"] == 'the field callback has to be JSON such as {"url": "https://example.com/done"}'


def test_a_callback_goes_with_the_url_too(rest: Rest) -> None:
    assert send(rest, callback='{"url": "http://93.184.215.14/done"}').status_code == 202
    request = rest.ledger.request(JOB_ID)
    assert request is not None
    assert [callback.url for callback in request.callbacks] == ["http://93.184.215.14/done"]


def test_a_job_that_is_done_is_answered_as_it_is(rest: Rest) -> None:
    send(rest)
    rest.finish(JOB_ID, STEMS)
    answer = send(rest)
    assert (answer.status_code, answer.json["status"]) == (202, "done")
    assert set(answer.json["stems"]) == set(STEMS)


def test_deleting_a_job_cancels_and_removes_it(rest: Rest) -> None:
    send(rest)
    claim = rest.queue.claim(str(rest.queue.take(block_seconds=1)), JOB_ID, "worker-1")
    assert claim is not None
    answer = rest.client.delete(f"/apiv1/jobs/{JOB_ID}")
    assert (answer.status_code, answer.data) == (204, b"")
    assert rest.stored() == []
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").status_code == 404
    assert rest.client.delete(f"/apiv1/jobs/{JOB_ID}").status_code == 404


def test_names_and_labels_outlive_another_try(rest: Rest) -> None:
    send(rest, name="Song", labels="choir")
    rest.finish(JOB_ID, status=JobStatus.FAILED, error_code="undecodable", ran=None)
    assert rest.client.post(f"/apiv1/jobs/{JOB_ID}/retry").status_code == 200
    view = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (view["status"], view["name"], view["labels"]) == ("queued", "Song", ["choir"])


def test_models_are_told_as_far_as_workers_announced_them(rest: Rest) -> None:
    unknown = {
        **{"offered": True, "announced": False, "announced_at": None, "realtime_factor": None},
        **{"memory_mb": None, "stems": None, "sample_rate": None, "weights": None},
    }
    assert rest.client.get("/apiv1/models").json == {
        "models": [{"name": "demo", "default": True, **unknown}, {"name": "htdemucs", "default": False, **unknown}],
        "song_urls": False,
    }
    rest.queue.models.announce(replace(DEMO_CARD, memory_mb=250))
    rest.queue.models.announce(DEMO_CARD)  # by a worker that has just begun
    demo = rest.client.get("/apiv1/models").json["models"][0]
    assert (demo["announced"], demo["memory_mb"]) == (True, 250)
    assert datetime.fromisoformat(demo["announced_at"]).tzinfo is UTC
    assert demo["stems"] == [
        *("drums", "bass", "other", "vocals"),
        *("no_drums", "no_bass", "no_other", "instrumental"),
    ]
    assert demo["weights"] == {"sha256": "ab" * 32, "source": None, "licence": None}
    rest.queue.models.announce(replace(DEMO_CARD, weights_sha256="cd" * 32))
    assert rest.client.get("/apiv1/models").json["models"][0]["memory_mb"] is None


def test_all_stems_by_name_are_the_same_job_as_none(rest: Rest) -> None:
    rest.queue.models.announce(DEMO_CARD)
    assert send(rest, stems="Vocals, drums,base,OTHER").json["hash"] == JOB_ID
    assert send(rest, stems="vocals,drums,bass,other,instrumental").json["hash"] != JOB_ID


@pytest.mark.parametrize("stems", ["vocals;drums", "voice", "../vocals", "vocals,"])
def test_stems_that_are_none_are_answered_with_those_there_are(rest: Rest, stems: str) -> None:
    rest.queue.models.announce(DEMO_CARD)
    answer = send(rest, stems=stems)
    assert (answer.status_code, answer.json["code"]) == (422, "unknown_stem")
    assert answer.json["detail"] == (
        "the stems of this model are: drums, bass, other, vocals, no_drums, no_bass, no_other, instrumental"
    )


def test_a_file_name_that_is_not_utf_8_is_told_from_a_broken_form(rest: Rest) -> None:
    part = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="gr\xfcn.mp3"\r\n\r\n' + SONG + b"\r\n--b--\r\n"
    )
    answer = rest.client.post("/apiv1/jobs", data=part, content_type="multipart/form-data; boundary=b")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_field")
    assert "UTF-8" in answer.json["detail"]
