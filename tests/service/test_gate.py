"""The gate before a real REST: what passes, what it limits, and what it says itself. On loopback, with a real nginx."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from gate_process import BEHIND_GATE, GateProcess, gate_before, need_nginx, write_config
from rest_process import SONG, RestProcess, answer_on, finish, form_head
from support import PATIENCE_SECONDS, RedisServer, eventually, make_song
from unmix import names

PAGE = Path(__file__).parents[2] / "rest" / "README.md"
STEM = os.urandom(1 << 20) * 6
#: Addresses of this machine besides the usual one.
ALICE, BOB, CAROL, DAVE = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"

#: With this REST tells in `/version` who it takes the client to be.
SHOW_CLIENT = """
import unmix_rest.routes.ops as ops
from flask import request
def version(services):
    return ops.json_answer(ops.Version(f"{request.remote_addr} {request.scheme} {request.host}", "0"))
version.__module__, version.__name__, version.__doc__ = "unmix_rest.routes.ops", "show_version", "Tell."
ops.show_version = version
"""


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer) -> Iterator[RestProcess]:
    process = RestProcess(tmp_path_factory.mktemp("rest"), shared_redis.url, patch=SHOW_CLIENT, **BEHIND_GATE)
    yield process.wait_until_ready()
    process.stop()


@pytest.fixture(scope="module")
def gate(rest: RestProcess) -> Iterator[GateProcess]:
    with gate_before(rest, UNMIX_GATE_REQUESTS_PER_SECOND="500") as process:
        yield process


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """What is closed when the test ends."""
    with ExitStack() as stack:
        yield stack


def stem_path(rest: RestProcess, number: int) -> str:
    """Return the path of a stem of 6 MB."""
    song = make_song(1, number)
    answer = requests.post(f"{rest.url}/apiv1/jobs", data=song, timeout=PATIENCE_SECONDS)
    job_id = answer.json()["hash"]
    finish(rest, job_id, STEM)
    return f"/apiv1/track/{job_id}/vocals"


def request_of(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: gate\r\n\r\n".encode()


def status_on(peer: socket.socket) -> int:
    """Read the status of the next answer, and nothing more of it."""
    answer = http.client.HTTPResponse(peer)
    answer.begin()
    return answer.status


def test_songs_pass_in_every_form_in_which_they_come(gate: GateProcess) -> None:
    song = make_song(2, 90)
    form = gate.post("/apiv1/separate", files={"file": song})
    raw = gate.post("/apiv1/jobs", data=song)
    chunks = gate.post("/apiv1/jobs", data=(song[begin : begin + 7000] for begin in range(0, len(song), 7000)))
    assert [each.status_code for each in (form, raw, chunks)] == [200, 202, 202]
    assert {each.json()["hash"] for each in (form, raw, chunks)} == {names.hash_song(song)}
    ticket = gate.post("/apiv1/uploads").json()
    assert requests.put(gate.url + ticket["url"], data=song, timeout=PATIENCE_SECONDS).json()["complete"]
    assert gate.post("/apiv1/jobs/", json={"upload": ticket["upload_id"]}).status_code == 202


def test_old_clients_may_send_null_with_their_get(gate: GateProcess) -> None:
    headers = {"content-type": "application/json"}
    with requests.Session() as session:
        for path in ("/apiv1/queue", "/apiv1/queue/", "/"):
            assert session.get(gate.url + path, data="null", headers=headers, timeout=PATIENCE_SECONDS).ok


def test_stems_pass_whole_and_in_ranges_and_are_known_again(gate: GateProcess, rest: RestProcess) -> None:
    path = stem_path(rest, 91)
    whole = gate.get(path)
    assert whole.content == STEM
    part = gate.get(path, headers={"Range": "bytes=5-104"})
    assert (part.status_code, part.content) == (206, STEM[5:105])
    assert part.headers["Content-Range"] == f"bytes 5-104/{len(STEM)}"
    assert gate.get(path, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    assert gate.get(path, headers={"Range": "bytes=99999999-"}).json()["code"] == "range_not_satisfiable"
    assert requests.head(gate.url + path, timeout=PATIENCE_SECONDS).headers["Content-Length"] == str(len(STEM))


def test_events_come_as_they_happen(gate: GateProcess, rest: RestProcess) -> None:
    job_id = gate.post("/apiv1/jobs", data=make_song(1, 92)).json()["hash"]
    with gate.get(f"/apiv1/jobs/{job_id}/events", stream=True) as stream:
        lines = stream.iter_lines(chunk_size=1, decode_unicode=True)
        kinds = (line.removeprefix("event: ") for line in lines if line.startswith("event: "))
        assert next(kinds) == "queued"
        rest.queue.forget(job_id)
        rest.queue.submit(job_id, "2")
        requests.post(f"{rest.url}/apiv1/jobs/{job_id}/cancel", timeout=PATIENCE_SECONDS)
        assert "cancelled" in list(kinds)


def test_who_waits_for_a_job_is_answered_when_it_is_over(gate: GateProcess, rest: RestProcess) -> None:
    job_id = gate.post("/apiv1/jobs", data=make_song(1, 93)).json()["hash"]
    answers: list[requests.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(gate.get(f"/apiv1/jobs/{job_id}?wait=60")))
    waiting.start()
    requests.post(f"{rest.url}/apiv1/jobs/{job_id}/cancel", timeout=PATIENCE_SECONDS)
    waiting.join(PATIENCE_SECONDS)
    assert [answer.json()["status"] for answer in answers] == ["cancelled"]


def test_rest_learns_who_the_client_is_from_the_gate_and_not_from_the_client(gate: GateProcess) -> None:
    forged = (
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\n"
        "X-Forwarded-Port: 1\r\nForwarded: for=192.0.2.1\r\nX_Forwarded_For: 192.0.2.1\r\n"
    )
    with gate.connect(ALICE) as peer:
        peer.sendall(f"GET /version HTTP/1.1\r\nHost: songs.test\r\n{forged}\r\n".encode())
        assert answer_on(peer)[1]["name"] == f"{ALICE} http songs.test"


def test_the_access_log_has_the_address_of_the_client_and_no_secrets(gate: GateProcess) -> None:
    with gate.connect(BOB) as peer:
        peer.sendall(b'GET /healthz?key=secret HTTP/1.1\r\nHost: gate\r\nUser-Agent: a"b\\\r\n\r\n')
        assert answer_on(peer)[0] == 200
        peer.sendall(b"PUT /apiv1/uploads/123-secret HTTP/1.1\r\nHost: gate\r\nContent-Length: 1\r\n\r\na")
        assert answer_on(peer)[0] == 404
    eventually(lambda: len([each for each in gate.logged() if each["address"] == BOB]) == 2, "it is logged")
    asked, sent = (each for each in gate.logged() if each["address"] == BOB)
    assert (asked["method"], asked["path"], asked["status"], asked["agent"]) == ("GET", "/healthz", "200", 'a"b\\')
    assert (sent["method"], sent["path"], sent["status"]) == ("PUT", "/apiv1/uploads/…", "404")
    assert "secret" not in gate.log.read_text()


def test_nobody_is_told_what_serves(gate: GateProcess) -> None:
    for path in ("/healthz", "/apiv1/nothing"):
        headers = gate.get(path).headers
        assert headers["Server"] == "nginx"
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"POST /apiv1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n", 413, "payload_too_large"),
        (b"POST /apiv1/jobs/x/retry HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n", 413, "payload_too_large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "not_implemented"),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_the_gate_refuses_has_the_form_of_all_errors(
    gate: GateProcess, raw: bytes, status: int, code: str
) -> None:
    with gate.connect() as peer:
        peer.sendall(raw)
        answered, problem = answer_on(peer)
    assert (answered, problem["code"], problem["status"]) == (status, code, status)
    assert {"type", "title", "detail", "error", "reason"} <= problem.keys()
    assert problem["instance"] == f"urn:uuid:{problem['request_id']}"
    assert len(problem["request_id"].split("-")) == 5


def test_what_follows_a_request_of_two_lengths_is_no_second_request(gate: GateProcess) -> None:
    with gate.connect() as peer:
        peer.sendall(
            b"POST /apiv1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        answers = b"".join(iter(lambda: peer.recv(65536), b""))
    assert answers.count(b"HTTP/1.") == 1


def test_without_rest_the_gate_says_so_and_when_to_come_again(gate: GateProcess) -> None:
    with gate_before(gate.rest, UNMIX_PORT="1", UNMIX_CORS_ORIGINS="https://example.com") as alone:
        answer = alone.post("/apiv1/separate", files={"file": SONG}, headers={"Origin": "https://example.com"})
        assert (answer.status_code, answer.json()["code"]) == (503, "rest_unavailable")
        assert answer.headers["Retry-After"] == "5"
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Access-Control-Allow-Origin"] == "https://example.com"
        assert "Access-Control-Allow-Origin" not in alone.get("/", headers={"Origin": "https://evil.test"}).headers
        eventually(lambda: len(alone.logged()) == 2, "it is logged")
        assert {each["code"] for each in alone.logged()} == {"rest_unavailable"}
        assert answer.json()["request_id"] in [each["request_id"] for each in alone.logged()]


def test_an_address_asks_for_so_much_at_once_and_another_is_not_concerned(rest: RestProcess, held: ExitStack) -> None:
    with gate_before(rest, UNMIX_GATE_CONNECTIONS="3") as narrow:
        streams = [held.enter_context(narrow.connect(ALICE)) for _ in range(5)]
        for peer in streams:
            peer.sendall(request_of("/apiv1/events?batch=b"))
        assert sorted(map(status_on, streams)) == [200, 200, 200, 429, 429]
        with narrow.connect(BOB) as peer:
            peer.sendall(request_of("/healthz"))
            assert answer_on(peer)[0] == 200
        for peer in streams:
            peer.close()

        def has_room() -> bool:
            with narrow.connect(ALICE) as peer:
                peer.sendall(request_of("/healthz"))
                return status_on(peer) == 200

        eventually(has_room, "there is room again")
        eventually(lambda: "too_many_requests" in narrow.log.read_text(), "it is logged")


def test_an_address_asks_so_often_and_another_is_not_concerned(rest: RestProcess) -> None:
    with gate_before(rest, UNMIX_GATE_REQUESTS_PER_SECOND="1") as narrow:
        answers = []
        with narrow.connect(ALICE) as peer:
            for _ in range(8):
                peer.sendall(request_of("/healthz"))
                answers.append(answer_on(peer))
        assert [status for status, _ in answers[:5]] == [200] * 5
        assert (answers[-1][0], answers[-1][1]["code"]) == (429, "too_many_requests")
        with narrow.connect(BOB) as peer:
            peer.sendall(request_of("/healthz"))
            assert answer_on(peer)[0] == 200


def test_an_address_sends_so_many_songs_at_once_and_cancels_all_the_same(rest: RestProcess, held: ExitStack) -> None:
    with gate_before(rest, UNMIX_GATE_UPLOADS="2") as narrow:
        before, after = form_head(len(SONG))
        senders = [held.enter_context(narrow.connect(ALICE)) for _ in range(2)]
        for peer in senders:
            peer.sendall(before + SONG[:-1])
        eventually(lambda: rest.kept_bytes() > len(SONG), "they come in")
        with narrow.connect(ALICE) as peer:
            peer.sendall(before + SONG + after)
            assert answer_on(peer)[1]["code"] == "too_many_requests"
        with narrow.connect(ALICE) as peer:
            peer.sendall(b"POST /apiv1/jobs/" + b"0" * 64 + b"/cancel HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert answer_on(peer)[0] == 404
        with narrow.connect(BOB) as peer:
            peer.sendall(before + SONG + after)
            assert answer_on(peer)[0] == 200
        for peer in senders:
            peer.sendall(SONG[-1:] + after)
            assert answer_on(peer)[0] == 200


def test_a_few_addresses_that_trickle_keep_nobody_else_from_sending(rest: RestProcess, held: ExitStack) -> None:
    with gate_before(rest, UNMIX_GATE_UPLOADS="1") as narrow:
        before, after = form_head(len(SONG))
        for address in (ALICE, BOB, CAROL, DAVE):
            peer = held.enter_context(narrow.connect(address))
            peer.sendall(before + SONG[:-1])
        eventually(lambda: rest.kept_bytes() > 3 * len(SONG), "they come in")
        assert narrow.kept_bytes() == 0
        with narrow.connect() as peer:
            peer.sendall(before + SONG + after)
            assert answer_on(peer)[0] == 200


def test_who_is_refused_by_rest_and_sends_on_still_reads_why(
    tmp_path: Path, shared_redis: RedisServer, held: ExitStack
) -> None:
    rest = RestProcess(tmp_path, shared_redis.url, UNMIX_UPLOAD_ROOM_MB="8", **BEHIND_GATE)
    held.callback(rest.stop)
    with gate_before(rest.wait_until_ready()) as gate:
        pieces = (bytes(1 << 20) for _ in range(20))
        for body in (bytes(20 << 20), pieces):
            answer = gate.post("/apiv1/jobs", data=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "no_room")


def test_an_answer_goes_out_no_faster_than_it_may(rest: RestProcess) -> None:
    path = stem_path(rest, 94)
    with gate_before(rest, UNMIX_GATE_MB_PER_SECOND="2") as narrow:
        began = time.monotonic()
        assert narrow.get(path).content == STEM
        assert time.monotonic() - began > len(STEM) / (2 << 20) - 1.5, "a limit on how fast, and not on how slow"


def test_who_asks_for_many_stems_at_once_and_reads_none_takes_no_thread_and_little_disk(
    gate: GateProcess, rest: RestProcess, held: ExitStack
) -> None:
    path = stem_path(rest, 95)
    for _ in range(8):
        peer = held.enter_context(gate.connect(CAROL, buffer_bytes=16_384))
        peer.sendall(request_of(path) * 40)
    eventually(lambda: gate.kept_bytes() > 0, "answers wait for their clients")
    for _ in range(5):
        assert gate.get("/healthz").status_code == 200
        assert gate.kept_bytes() <= 8 * len(STEM)
        time.sleep(0.1)


def test_an_address_that_reads_slowly_leaves_places_for_stems_to_others(rest: RestProcess, held: ExitStack) -> None:
    path = stem_path(rest, 97)
    with gate_before(rest, UNMIX_UPLOAD_ROOM_MB="128") as narrow:  # 16 answers of 8 MiB, of which one in eight
        readers = [held.enter_context(narrow.connect(ALICE, buffer_bytes=16_384)) for _ in range(3)]
        for peer in readers:
            peer.sendall(request_of(path))
        assert sorted(map(status_on, readers)) == [200, 200, 429]
        with narrow.connect(BOB) as peer:
            peer.sendall(request_of(path))
            assert status_on(peer) == 200


def test_who_does_not_send_or_read_is_cut_off(rest: RestProcess, held: ExitStack) -> None:
    path = stem_path(rest, 96)
    times = {"client_header_timeout": "1s", "client_body_timeout": "1s", "send_timeout": "1s"}
    with gate_before(rest, times) as gate:
        before, _ = form_head(len(SONG))
        silent, headless, bodiless, deaf = (held.enter_context(gate.connect(buffer_bytes=16_384)) for _ in range(4))
        headless.sendall(b"GET / HTTP/1.1\r\nX: ")
        bodiless.sendall(before)
        deaf.sendall(request_of(path))
        time.sleep(2.5)
        for peer in (silent, headless, bodiless, deaf):
            received = 0
            try:
                while part := peer.recv(1 << 20):
                    received += len(part)
            except ConnectionError:
                pass
            assert received < len(STEM)


def test_what_is_under_way_ends_before_the_gate_does(rest: RestProcess) -> None:
    with gate_before(rest) as gate:
        before, after = form_head(len(SONG))
        with gate.connect() as peer:
            peer.sendall(before + SONG[:-1])
            eventually(lambda: rest.kept_bytes() > 0, "the song comes in")
            gate.process.send_signal(signal.SIGQUIT)
            eventually(lambda: not gate._answers(), "nobody can connect any more")
            assert (gate.folder / "nginx.pid").exists()
            peer.sendall(SONG[-1:] + after)
            assert answer_on(peer)[0] == 200
        gate.process.wait(timeout=PATIENCE_SECONDS)
        assert not (gate.folder / "nginx.pid").exists()


def test_with_a_certificate_it_speaks_tls_only(rest: RestProcess, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=gate -addext subjectAltName=IP:127.0.0.1"
    outputs = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *outputs], check=True, capture_output=True)
    files = {"UNMIX_GATE_CERTIFICATE": str(certificate), "UNMIX_GATE_CERTIFICATE_KEY": str(key)}
    with gate_before(rest, {}, **files) as gate:
        answer = gate.get("/version", verify=str(certificate))
        assert answer.json()["name"] == f"127.0.0.1 https 127.0.0.1:{gate.port}"
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        plain = requests.get(f"http://127.0.0.1:{gate.port}/", timeout=PATIENCE_SECONDS)
        assert (plain.status_code, plain.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"UNMIX_GATE_HOST": "::", "UNMIX_HOST": "::1", "UNMIX_GATE_MB_PER_SECOND": "0"},
        {"UNMIX_CORS_ORIGINS": "*", "UNMIX_MAX_UPLOAD_MB": "1", "UNMIX_UPLOAD_ROOM_MB": "1"},
        {"UNMIX_CORS_ORIGINS": "https://a.example,http://localhost:3000", "UNMIX_REST_SHUTDOWN_SECONDS": "0"},
    ],
)
def test_nginx_accepts_what_any_settings_make(tmp_path: Path, settings: dict[str, str]) -> None:
    written = write_config(tmp_path / "a folder", **settings)
    assert written.returncode == 0, written.stderr
    config = str(tmp_path / "a folder" / "nginx.conf")
    tested = subprocess.run(
        [need_nginx(), "-e", "stderr", "-t", "-c", config], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    (section,) = re.findall(r"^## The gate$(.*?)^## ", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^    (\S.*)$", section, re.MULTILINE)
    assert commands[0] == "UNMIX_AUTH=keys UNMIX_TRUSTED_PROXY=127.0.0.1 .venv/bin/unmix local"
    for command in commands[1:]:
        line = command.replace(".venv/bin/python", sys.executable).replace("nginx -e", f"{need_nginx()} -t -e")
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert len(commands) == 3
    (printed,) = subprocess.check_output(
        ["bash", "-c", commands[1].replace(".venv/bin/python", sys.executable)], cwd=tmp_path, text=True
    ).splitlines()
    assert printed == commands[2].replace("$PWD", str(tmp_path))
