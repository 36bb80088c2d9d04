"""What no client should send, and what it is answered.

There are bodies and fields for the tests of the application, and all of it as bytes for a port, for tests and
benchmarks of REST as strangers reach it.
"""

import base64
import json
import socket
import struct
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import av

from rest_support import encoded, wav_header
from support import make_song
from unmix.names import hash_song

#: What REST has to be told for all of these to be bad.
BAD_REQUEST_SETTINGS: Final = {"UNMIX_MAX_UPLOAD_MB": "1", "UNMIX_MAX_SONG_SECONDS": "30"}

# Above 500 kB Flask's test client leaves its own temporary file open, so what is sent here is small.
SONG: Final = make_song(0.5, 1)
SONG_TEXT: Final = base64.b64encode(SONG).decode()
JOB_ID: Final = hash_song(SONG)

BROKEN_JSON: Final[tuple[tuple[str | bytes, str], ...]] = (
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
)

#: Of a body of JSON
WRONG_FIELDS: Final[tuple[tuple[dict[str, Any], str], ...]] = (
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
)

#: Of a form; a file is its bytes and its name.
WRONG_FORMS: Final[tuple[tuple[dict[str, Any], str], ...]] = (
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
    ({"file": (SONG, "a.mp3"), "song_rate": "true"}, "unknown_rate"),
    ({"file": (SONG, "a.mp3"), "callback": '{"url": "gopher://example.com"}'}, "callback_scheme"),
    ({"file": (SONG, "a.mp3"), "callback": '{"url": "http://127.1/"}'}, "callback_forbidden"),
)
#: How a wrong form is answered where it is not 422.
FORM_STATUS: Final = {"invalid_json_shape": 400, "invalid_json": 400, "duplicate_key": 400, "payload_too_large": 413}


def zipped() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("song.wav", SONG)
    return buffer.getvalue()


_HLS: Final = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"

#: All are 415.
NO_SONGS: Final = (
    (b"hello, this is no song " * 50, "not_audio"),
    (b"<!doctype html><html><body>hi</body></html>", "not_audio"),
    (b'<?xml version="1.0"?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>', "not_audio"),
    (b"%PDF-1.4\n" + SONG, "not_audio"),
    (b"\x7fELF\x02\x01\x01" + bytes(500), "not_audio"),
    (zipped(), "not_audio"),
    (_HLS, "unsupported_container"),
    (b"RIFF" + struct.pack("<I", len(_HLS) + 4) + b"AVI " + _HLS, "unsupported_container"),
    (b"ffconcat version 1.0\nfile /etc/passwd\n", "unsupported_container"),
    (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n", "unsupported_container"),
)

_ID3: Final = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)
#: None has a frame.
NO_FRAMES: Final = {
    "ID3 only": _ID3,
    "ID3 and junk": _ID3 + b"junk" * 1000,
    "cut before a frame": encoded(2, "mp3", "libmp3lame")[:80],
}

IMPOSSIBLE_HEADERS: Final = (
    ({"rate": 0, "channels": 2}, "bad_sample_rate"),
    ({"rate": 4_000_000_000, "channels": 2}, "bad_sample_rate"),
    ({"rate": 44_100, "channels": 65_535}, "bad_channels"),
)


def impossible(header: dict[str, int]) -> bytes:
    """Return a wav with such a header."""
    return wav_header(**header, data_bytes=40_000) + bytes(40_000)


def of_floats(sample: str) -> bytes:
    """Return a wav of nothing but such samples."""
    data = struct.pack("<f", float(sample)) * 44_100
    return wav_header(rate=44_100, channels=1, format_tag=3, bits=32, data_bytes=len(data)) + data


def too_long() -> bytes:
    return encoded(35, "mp3", "libmp3lame", rate=16_000, layout="mono")


def longer_than_it_says() -> bytes:
    song = bytearray(too_long())
    at = song.find(b"Info", 0, 400)
    assert at > 0
    song[at + 8 : at + 12] = struct.pack(">I", 10)  # the number of frames
    return bytes(song)


def of_many_streams() -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        streams = [output.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(40)]
        for stream in streams:
            frame = av.AudioFrame(format="s16", layout="mono", samples=800)
            frame.sample_rate = 8000
            output.mux(stream.encode(frame))
    return buffer.getvalue()


def of_another_file() -> bytes:
    """Return an m4a whose samples lie elsewhere."""
    song = encoded(1, "ipod", "aac")
    # A data reference `url ` with the flag "in this file" cleared names another file.
    at = song.index(b"url \x00\x00\x00\x01")
    return song[:at] + b"url \x00\x00\x00\x00" + song[at + 8 :]


BAD_JOB_IDS: Final = (
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
)
BAD_TRACKS: Final = (
    *("..%5cvocals", "%2e%2e", "vocals%00", "Vocals", "vocals.exe", "vocals.mp3.mp3", "x" * 33, "banana"),
)

#: Requests that are not well-formed, or that nobody may send, with the status and the code.
BROKEN_HTTP: Final = (
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", 431, "headers_too_large"),
    (b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n", 400, "bad_request"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n", 400, "bad_request"),
    (b"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "not_implemented"),
)

#: Heads of a request whose length is said twice or not at all: what follows is no second request.
TWO_LENGTHS: Final = (
    b"HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
    b"HTTP/1.0\r\nTransfer-Encoding: chunked",
    b"HTTP/1.1\r\nTransfer-Encoding: ,",
    b"HTTP/1.1\r\nTransfer-Encoding:",
    b"HTTP/1.1\r\nTransfer-Encoding:\r\n chunked",
    b"HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
)


def two_requests(head: bytes) -> bytes:
    """Return a request with such a head, and what would be a second one."""
    return b"POST /apiv1/jobs " + head + b"\r\nHost: a\r\n\r\n0\r\n\r\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True, slots=True)
class BadRequest:
    """What is sent to a port, and the statuses and codes with which it may be answered."""

    name: str
    raw: bytes
    wanted: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back on a connection until it was closed."""

    status: int  # 0 if no answer came
    code: str | None  # of an error in the form that all have
    answers: int

    def is_as_wanted(self, request: BadRequest) -> bool:
        """Tell whether a request was answered so, and once."""
        return (self.status, self.code) in request.wanted and self.answers == 1


def answered(peer: socket.socket, request: BadRequest) -> Answered:
    """Send a request, of which the connection is to be closed, and read what comes."""
    received = b""
    with suppress(ConnectionError):  # who is refused while he sends is reset when he does not stop
        peer.sendall(request.raw)
    with suppress(ConnectionError):
        while part := peer.recv(1 << 16):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    is_problem = b"\r\ncontent-type: application/problem+json" in head.lower()
    code = json.loads(body)["code"] if is_problem else None
    return Answered(int(received[9:12] or 0), code, received.count(b"HTTP/1."))


#: What nginx says of paths that REST looks at and finds nothing, and both of what is no request.
_NO_PATH: Final = (400, "bad_request")


def bad_requests() -> Iterator[BadRequest]:
    """Yield everything above, as it comes in at a port; nothing of it may be stored."""
    for number, (text, code) in enumerate(BROKEN_JSON):
        data = text if isinstance(text, bytes) else text.encode()
        yield BadRequest(f"broken JSON {number}", _posted(data, "application/json"), ((400, code),))
    for number, (fields, code) in enumerate(WRONG_FIELDS):
        body = _posted(json.dumps(fields).encode(), "application/json")
        yield BadRequest(f"wrong field {number}", body, ((400, code),))
    for number, (form, code) in enumerate(WRONG_FORMS):
        yield BadRequest(f"wrong form {number}", _form(form), ((FORM_STATUS.get(code, 422), code),))
    for number, (data, code) in enumerate(NO_SONGS):
        yield BadRequest(f"no song {number}", _song(data), ((415, code),))
    for name, data in NO_FRAMES.items():
        yield BadRequest(name, _song(data), ((422, "no_audio_frames"),))
    songs = {
        "too short": (encoded(0.05, "wav", "pcm_s16le"), "too_short"),
        "too long": (too_long(), "too_long"),
        "longer than it says": (longer_than_it_says(), "too_long"),
        "of many streams": (of_many_streams(), "too_many_streams"),
        "of another file": (of_another_file(), "external_reference"),
        **{f"samples of {sample}": (of_floats(sample), "bad_samples") for sample in ("nan", "inf")},
        **{f"a wav of {header}": (impossible(header), code) for header, code in IMPOSSIBLE_HEADERS},
    }
    for name, (data, code) in songs.items():
        yield BadRequest(name, _song(data), ((422, code),))
    for job_id in BAD_JOB_IDS:
        for path in (f"jobs/{job_id}", f"track/{job_id}/vocals", f"remove/{job_id}"):
            yield BadRequest(f"GET {path}"[:80], _asked(f"/apiv1/{path}"), ((404, "not_found"), _NO_PATH))
    for track in BAD_TRACKS:
        yield BadRequest(
            f"track {track}"[:80], _asked(f"/apiv1/track/{JOB_ID}/{track}"), ((400, "unknown_stem"), _NO_PATH)
        )
    for raw, status, code in BROKEN_HTTP:
        yield BadRequest(str(raw[:50]), raw, ((status, code),))
    for head in TWO_LENGTHS:
        yield BadRequest(str(head), two_requests(head), (_NO_PATH, (501, "not_implemented")))
    for path in ("/%zz", "/a%00b", "/../../etc/passwd", "/" + "a" * 100_000):
        wanted = ((404, "not_found"), _NO_PATH, (431, "headers_too_large"))
        yield BadRequest(path[:80], _asked(path), wanted)


def _posted(body: bytes, content_type: str) -> bytes:
    head = "POST /apiv1/separate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return f"{head}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _song(data: bytes) -> bytes:
    return _form({"file": (data, "song.mp3")})


def _form(fields: dict[str, Any]) -> bytes:
    parts = []
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            data, file = value if isinstance(value, tuple) else (value.encode(), None)
            said = f'; filename="{file}"' if file else ""
            parts.append(
                f'--b\r\nContent-Disposition: form-data; name="{name}"{said}\r\n\r\n'.encode() + data + b"\r\n"
            )
    return _posted(b"".join(parts) + b"--b--\r\n", "multipart/form-data; boundary=b")


def _asked(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
