"""The rows of "Bad input": each has its answer, is told in the form of all errors, and leaves nothing behind."""

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from bad_requests import (
    BAD_JOB_IDS,
    BAD_TRACKS,
    BROKEN_JSON,
    FORM_STATUS,
    IMPOSSIBLE_HEADERS,
    JOB_ID,
    NO_FRAMES,
    NO_SONGS,
    SONG,
    WRONG_FIELDS,
    WRONG_FORMS,
    impossible,
    longer_than_it_says,
    of_another_file,
    of_floats,
    of_many_streams,
    too_long,
)
from rest_support import DEMO_CARD, Answer, Rest, encoded


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Iterator[Rest]:
    """As elsewhere; after each test the store must be as empty as before."""
    rest = Rest(tmp_path, redis_url, max_upload_mb=1, max_song_seconds=30)
    yield rest
    assert rest.stored() == []
    assert rest.queue.views.waiting(limit=9) == ([], 0)


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == status
    assert {"type", "title", "detail", "instance", "request_id", "error", "reason"} <= set(answer.json)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def post_text(rest: Rest, body: str | bytes, content_type: str | None = "application/json") -> Answer:
    return rest.client.post("/apiv1/separate", data=body, content_type=content_type)


@pytest.mark.parametrize(("body", "code"), BROKEN_JSON, ids=str)
def test_broken_json(rest: Rest, body: str | bytes, code: str) -> None:
    assert_problem(post_text(rest, body), 400, code)


@pytest.mark.parametrize(("fields", "code"), WRONG_FIELDS, ids=lambda value: str(value)[:50])
def test_a_wrong_field_of_an_old_client_is_400(rest: Rest, fields: dict[str, Any], code: str) -> None:
    assert_problem(rest.client.post("/apiv1/separate", json=fields), 400, code)


@pytest.mark.parametrize(("fields", "code"), WRONG_FORMS, ids=lambda value: str(value)[-50:])
def test_a_wrong_field_of_a_form(rest: Rest, fields: dict[str, Any], code: str) -> None:
    fresh = {name: (BytesIO(value[0]), value[1]) if isinstance(value, tuple) else value
             for name, value in fields.items()}  # fmt: skip
    assert_problem(rest.client.post("/apiv1/separate", data=fresh, content_type="multipart/form-data"),
                   FORM_STATUS.get(code, 422), code)  # fmt: skip


@pytest.mark.parametrize(
    "model", ["mdx_extra", "../../weights", "http://example.com/m.th", "evil.th", "HTDEMUCS", "demo\0"]
)
def test_a_model_that_the_operator_does_not_offer(rest: Rest, model: str) -> None:
    for answer in (rest.post_json(SONG, model=model), rest.post_form(SONG, model=model)):
        assert_problem(answer, 422, "unknown_model")
        assert model not in answer.text


def test_a_stem_that_the_model_does_not_have(rest: Rest) -> None:
    rest.queue.models.announce(DEMO_CARD)
    assert_problem(rest.post_form(SONG, stems="vocals,guitar"), 422, "unknown_stem")


def test_an_instrumental_of_a_model_without_vocals(rest: Rest) -> None:
    rest.queue.models.announce(replace(DEMO_CARD, sources=("drums", "bass")))
    assert_problem(rest.post_form(SONG, stems="instrumental"), 422, "unknown_stem")


@pytest.mark.parametrize("value", [10**9, -1, True, 0.5, "1"])
@pytest.mark.parametrize("name", ["segment", "segment_seconds", "sample_rate"])
def test_options_that_the_service_decides_itself(rest: Rest, name: str, value: object) -> None:
    assert_problem(rest.post_json(SONG, **{name: value}), 422, "out_of_range")


@pytest.mark.parametrize("content_type", ["audio/mpeg", "image/png", "application/octet-stream", "application/xml"])
def test_a_body_that_is_neither_json_nor_a_form(rest: Rest, content_type: str) -> None:
    assert_problem(post_text(rest, SONG, content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP, identity"])
def test_an_encoded_body(rest: Rest, encoding: str) -> None:
    answer = rest.client.post("/apiv1/separate", data=b"\x1f\x8b", headers={"Content-Encoding": encoding})
    assert_problem(answer, 415, "unsupported_encoding")


def test_a_form_that_breaks_off(rest: Rest) -> None:
    whole = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n' + SONG + b"\r\n--b--\r\n"
    for body in (whole[:-9], whole[:2000], whole[:10]):
        assert_problem(post_text(rest, body, "multipart/form-data; boundary=b"), 400, "incomplete_body")
    assert_problem(post_text(rest, whole, "multipart/form-data"), 400, "incomplete_body")


def test_a_song_that_is_larger_than_allowed(rest: Rest) -> None:
    song = b"\0" * ((1 << 20) + 1)
    assert_problem(rest.post_json(song), 413, "payload_too_large")
    parts = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n' + song + b"\r\n--b--\r\n"
    assert_problem(post_text(rest, parts, "multipart/form-data; boundary=b"), 413, "payload_too_large")
    assert_problem(post_text(rest, b"{" + b" " * (3 << 20)), 413, "payload_too_large")


@pytest.mark.parametrize(("data", "code"), NO_SONGS, ids=lambda value: str(value)[:30])
def test_bytes_that_are_no_song(rest: Rest, data: bytes, code: str) -> None:
    assert_problem(rest.post_json(data), 415, code)
    assert_problem(rest.post_form(data, name="song.mp3"), 415, code)


@pytest.mark.parametrize("data", NO_FRAMES.values(), ids=NO_FRAMES)
def test_an_mp3_without_frames(rest: Rest, data: bytes) -> None:
    answer = rest.post_form(data)
    assert answer.json["code"] in ("undecodable", "no_audio_frames")
    assert answer.status_code == 422


def test_a_song_too_short(rest: Rest) -> None:
    assert_problem(rest.post_form(encoded(0.05, "wav", "pcm_s16le")), 422, "too_short")


def test_a_song_too_long_by_what_it_decodes_to(rest: Rest) -> None:
    answer = rest.post_form(too_long())
    assert_problem(answer, 422, "too_long")
    assert "30 s that are taken here (UNMIX_MAX_SONG_SECONDS)" in answer.json["detail"]


def test_a_header_that_promises_less_than_there_is_does_not_help(rest: Rest) -> None:
    assert_problem(rest.post_form(longer_than_it_says()), 422, "too_long")


@pytest.mark.parametrize(("header", "code"), IMPOSSIBLE_HEADERS, ids=str)
def test_impossible_wav_headers(rest: Rest, header: dict[str, int], code: str) -> None:
    assert_problem(rest.post_form(impossible(header)), 422, code)


@pytest.mark.parametrize("sample", ["nan", "inf"])
def test_samples_that_are_no_numbers(rest: Rest, sample: str) -> None:
    assert_problem(rest.post_form(of_floats(sample)), 422, "bad_samples")


def test_a_file_with_very_many_streams(rest: Rest) -> None:
    assert_problem(rest.post_form(of_many_streams()), 422, "too_many_streams")


def test_an_m4a_whose_samples_lie_in_another_file(rest: Rest) -> None:
    assert_problem(rest.post_form(of_another_file()), 422, "external_reference")


@pytest.mark.parametrize("job_id", BAD_JOB_IDS)
def test_tricks_in_a_hash_are_answered_before_any_io(rest: Rest, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_io(*_: object) -> None:
        raise AssertionError("the store was asked")

    for method in ("get", "stat", "open", "remove", "list"):
        monkeypatch.setattr(rest.store, method, no_io)
    for path in (f"jobs/{job_id}", f"track/{job_id}/vocals", f"remove/{job_id}", f"remove/{job_id}/vocals",
                 f"track?hash={job_id}&track=vocals"):  # fmt: skip
        assert_problem(rest.client.get(f"/apiv1/{path}"), 404, "not_found")
    monkeypatch.undo()


@pytest.mark.parametrize("track", BAD_TRACKS)
def test_an_unknown_track_is_400(rest: Rest, track: str) -> None:
    assert_problem(rest.client.get(f"/apiv1/track/{JOB_ID}/{track}"), 400, "unknown_stem")


@pytest.mark.parametrize("path", ["", "?hash=" + JOB_ID, "?track=vocals", "?hash=&track="])
def test_a_query_that_names_no_stem(rest: Rest, path: str) -> None:
    assert_problem(rest.client.get(f"/apiv1/track{path}"), 400, "missing_field")


def test_the_input_is_never_repeated_in_an_answer(rest: Rest) -> None:
    mark = "<script>mark</script>"
    answers = [
        rest.post_json(SONG, model=mark),
        rest.post_form(SONG, stems=mark),
        rest.post_form(SONG, callback=json.dumps({"url": f"http://localhost/{mark}"})),
        post_text(rest, mark),
        rest.client.get(f"/{mark}"),
        rest.client.get(f"/apiv1/track/{JOB_ID}/{mark}"),
        rest.client.get(f"/apiv1/jobs/{mark}"),
    ]
    for answer in answers:
        assert answer.status_code >= 400
        assert "mark" not in answer.text
        assert answer.headers["Content-Security-Policy"] == "default-src 'self'"
