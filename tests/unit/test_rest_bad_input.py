"""The rows of "Bad input": each has its answer, is told in the form of all errors, and leaves nothing behind."""

import base64
import json
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest

from rest_support import DEMO_CARD, Answer, Rest, encoded, wav_header
from support import make_song
from unmix.names import hash_song

# Above 500 kB Flask's test client leaves its own temporary file open, so what is sent here is small.
SONG = make_song(0.5, 1)
SONG_TEXT = base64.b64encode(SONG).decode()
JOB_ID = hash_song(SONG)


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


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ('{"mp3": "AAAA', "invalid_json"),
        ('{"mp3": "AAAA"', "invalid_json"),
        ('{"mp3": "AA\nAA"}', "invalid_json"),
        ('{"mp3": "AA\\xAA"}', "invalid_json"),
        ('{"mp3": "AAAA",}', "invalid_json"),
        ('{"mp3": "AAAA"} {}', "invalid_json"),
        ('{"mp3": "AAAA", "callback": NaN}', "invalid_json"),
        ('{"mp3": "AAAA", "callback": -Infinity}', "invalid_json"),
        ('{"mp3": "AAAA", "callback": 1e999}', "invalid_json"),
        ('{"mp3": "AAAA", "callback": ' + "9" * 5000 + "}", "invalid_json"),
        ('{"mp3": "AAAA", "callback": "\\ud800"}', "invalid_json"),
        ('{"mp3": "AAAA", "\\udfff": 1}', "invalid_json"),
        (b'{"mp3": "AAAA", "callback": "\xff\xfe"}', "invalid_json"),
        (b'{"mp3": "AA\xffAA"}', "invalid_json"),
        ('{"mp3": "AAAA"}'.encode("utf-16"), "invalid_json"),
        ('{"mp3": "AAAA", "callback": ' + "[" * 20_000 + "]" * 20_000 + "}", "invalid_json"),
        ('{"mp3": "AAAA", "callback": ' + '{"data":' * 40 + "1" + "}" * 40 + "}", "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ('{"mp3": "AAAA", "mp3": "AAAA"}', "duplicate_key"),
        ('{"mp3": "AAAA", "callback": {"url": "a", "url": "b"}}', "duplicate_key"),
        ("[]", "invalid_json_shape"),
        ('"text"', "invalid_json_shape"),
        ("null", "invalid_json_shape"),
        ("17", "invalid_json_shape"),
    ],
    ids=str,
)
def test_broken_json(rest: Rest, body: str | bytes, code: str) -> None:
    assert_problem(post_text(rest, body), 400, code)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "missing_field"),
        ({"mp3": None}, "missing_field"),
        ({"mp3": 17}, "invalid_field"),
        ({"mp3": ["AAAA"]}, "invalid_field"),
        ({"mp3": {"mp3": "AAAA"}}, "invalid_field"),
        ({"mp3": ""}, "empty_audio"),
        ({"mp3": "data:audio/mpeg;base64,"}, "empty_audio"),
        ({"mp3": SONG_TEXT[:-1]}, "invalid_base64"),
        ({"mp3": SONG_TEXT + "AAAA="}, "invalid_base64"),
        ({"mp3": SONG_TEXT + "===="}, "invalid_base64"),
        ({"mp3": "QQ==" + SONG_TEXT}, "invalid_base64"),
        ({"mp3": " " + SONG_TEXT}, "invalid_base64"),
        ({"mp3": "ä" + SONG_TEXT}, "invalid_base64"),
        ({"mp3": SONG_TEXT.replace("/", "_").replace("+", "-")}, "invalid_base64"),
        ({"mp3": "data:audio/mpeg," + SONG_TEXT}, "invalid_base64"),
        ({"mp3": "../../etc/passwd"}, "invalid_base64"),
        ({"mp3": SONG_TEXT, "model": 17}, "invalid_field"),
        ({"mp3": SONG_TEXT, "callback": "http://example.com"}, "invalid_field"),
        ({"mp3": SONG_TEXT, "callback": {"data": {}}}, "invalid_field"),
        ({"mp3": SONG_TEXT, "callback": {"url": 17}}, "invalid_field"),
        ({"mp3": SONG_TEXT, "callback": {"url": "http://example.com", "data": []}}, "invalid_field"),
        ({"mp3": SONG_TEXT, "stems": {"vocals": True}}, "invalid_field"),
        ({"mp3": SONG_TEXT, "stems": ["vocals", 3]}, "invalid_field"),
        ({"mp3": SONG_TEXT, "mixture_consistency": 1}, "invalid_field"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_wrong_field_of_an_old_client_is_400(rest: Rest, fields: dict[str, Any], code: str) -> None:
    assert_problem(rest.client.post("/apiv1/separate", json=fields), 400, code)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"other": (SONG, "a.mp3")}, "missing_field"),
        ({"mp3": SONG_TEXT[:1000]}, "missing_field"),
        ({"file": (b"", "a.mp3")}, "empty_audio"),
        ({"file": (SONG, "a.mp3"), "mp3": (SONG, "b.mp3")}, "invalid_field"),
        ({"file": (SONG, "a.mp3"), "callback": "[]"}, "invalid_json_shape"),
        ({"file": (SONG, "a.mp3"), "callback": "http://example.com"}, "invalid_json"),
        ({"file": (SONG, "a.mp3"), "model": ["a", "b"]}, "duplicate_key"),
        ({"file": (SONG, "a.mp3"), "stems": "../vocals"}, "unknown_stem"),
        ({"file": (SONG, "a.mp3"), "mixture_consistency": "maybe"}, "invalid_field"),
        ({"file": (SONG, "a.mp3"), "callback": "x" * 70_000}, "payload_too_large"),
        ({"file": (SONG, "a.mp3"), "format": "exe"}, "unknown_format"),
        ({"file": (SONG, "a.mp3"), "callback": '{"url": "gopher://example.com"}'}, "callback_scheme"),
        ({"file": (SONG, "a.mp3"), "callback": '{"url": "http://127.1/"}'}, "callback_forbidden"),
    ],
    ids=lambda value: str(value)[-50:],
)
def test_a_wrong_field_of_a_form(rest: Rest, fields: dict[str, Any], code: str) -> None:
    status = {"invalid_json_shape": 400, "invalid_json": 400, "duplicate_key": 400, "payload_too_large": 413}
    fresh = {name: (BytesIO(value[0]), value[1]) if isinstance(value, tuple) else value
             for name, value in fields.items()}  # fmt: skip
    assert_problem(rest.client.post("/apiv1/separate", data=fresh, content_type="multipart/form-data"),
                   status.get(code, 422), code)  # fmt: skip


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


def pdf_with_a_song() -> bytes:
    return b"%PDF-1.4\n" + SONG


def zipped() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("song.wav", SONG)
    return buffer.getvalue()


HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"hello, this is no song " * 50, "not_audio"),
        (b"<!doctype html><html><body>hi</body></html>", "not_audio"),
        (b'<?xml version="1.0"?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>', "not_audio"),
        (pdf_with_a_song(), "not_audio"),
        (b"\x7fELF\x02\x01\x01" + bytes(500), "not_audio"),
        (zipped(), "not_audio"),
        (HLS, "unsupported_container"),
        (b"RIFF" + struct.pack("<I", len(HLS) + 4) + b"AVI " + HLS, "unsupported_container"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "unsupported_container"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n", "unsupported_container"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bytes_that_are_no_song(rest: Rest, data: bytes, code: str) -> None:
    assert_problem(rest.post_json(data), 415, code)
    assert_problem(rest.post_form(data, name="song.mp3"), 415, code)


ID3 = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)


@pytest.mark.parametrize(
    "data",
    [ID3, ID3 + b"junk" * 1000, encoded(2, "mp3", "libmp3lame")[:80]],
    ids=["ID3 only", "ID3 and junk", "cut before a frame"],
)
def test_an_mp3_without_frames(rest: Rest, data: bytes) -> None:
    answer = rest.post_form(data)
    assert answer.json["code"] in ("undecodable", "no_audio_frames")
    assert answer.status_code == 422


def test_a_song_too_short(rest: Rest) -> None:
    assert_problem(rest.post_form(encoded(0.05, "wav", "pcm_s16le")), 422, "too_short")


def test_a_song_too_long_by_what_it_decodes_to(rest: Rest) -> None:
    answer = rest.post_form(encoded(35, "mp3", "libmp3lame", rate=16_000, layout="mono"))
    assert_problem(answer, 422, "too_long")
    assert "30 s that are taken here (UNMIX_MAX_SONG_SECONDS)" in answer.json["detail"]


def test_a_header_that_promises_less_than_there_is_does_not_help(rest: Rest) -> None:
    song = bytearray(encoded(35, "mp3", "libmp3lame", rate=16_000, layout="mono"))
    at = song.find(b"Info", 0, 400)
    assert at > 0
    song[at + 8 : at + 12] = struct.pack(">I", 10)  # the number of frames
    assert_problem(rest.post_form(bytes(song)), 422, "too_long")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"rate": 0, "channels": 2}, "bad_sample_rate"),
        ({"rate": 4_000_000_000, "channels": 2}, "bad_sample_rate"),
        ({"rate": 44_100, "channels": 65_535}, "bad_channels"),
    ],
    ids=str,
)
def test_impossible_wav_headers(rest: Rest, header: dict[str, int], code: str) -> None:
    assert_problem(rest.post_form(wav_header(**header, data_bytes=40_000) + bytes(40_000)), 422, code)


@pytest.mark.parametrize("sample", ["nan", "inf"])
def test_samples_that_are_no_numbers(rest: Rest, sample: str) -> None:
    data = struct.pack("<f", float(sample)) * 44_100
    wav = wav_header(rate=44_100, channels=1, format_tag=3, bits=32, data_bytes=len(data)) + data
    assert_problem(rest.post_form(wav), 422, "bad_samples")


def test_a_file_with_very_many_streams(rest: Rest) -> None:
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        streams = [output.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(40)]
        for stream in streams:
            frame = av.AudioFrame(format="s16", layout="mono", samples=800)
            frame.sample_rate = 8000
            output.mux(stream.encode(frame))
    assert_problem(rest.post_form(buffer.getvalue()), 422, "too_many_streams")


def test_an_m4a_whose_samples_lie_in_another_file(rest: Rest) -> None:
    song = encoded(1, "ipod", "aac")
    # A data reference `url ` with the flag "in this file" cleared names another file.
    at = song.index(b"url \x00\x00\x00\x01")
    outside = song[:at] + b"url \x00\x00\x00\x00" + song[at + 8 :]
    assert_problem(rest.post_form(outside), 422, "external_reference")


@pytest.mark.parametrize(
    "job_id",
    [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "..%5c..%5cwindows",
        "a%00b",
        JOB_ID.upper(),
        JOB_ID + "0",
        JOB_ID[:-1],
        JOB_ID + ".",
        JOB_ID + ".0123456g",
        JOB_ID + "%0a",
        "%F0%9F%8E%B5",
        "x" * 8000,
    ],
)
def test_tricks_in_a_hash_are_answered_before_any_io(rest: Rest, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_io(*_: object) -> None:
        raise AssertionError("the store was asked")

    for method in ("get", "stat", "open", "remove", "list"):
        monkeypatch.setattr(rest.store, method, no_io)
    for path in (f"jobs/{job_id}", f"track/{job_id}/vocals", f"remove/{job_id}", f"remove/{job_id}/vocals",
                 f"track?hash={job_id}&track=vocals"):  # fmt: skip
        assert_problem(rest.client.get(f"/apiv1/{path}"), 404, "not_found")
    monkeypatch.undo()


@pytest.mark.parametrize(
    "track", ["..%5cvocals", "%2e%2e", "vocals%00", "Vocals", "vocals.exe", "vocals.mp3.mp3", "x" * 33, "banana"]
)
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
