"""REST as a process behind a real port: slow, huge and broken clients, and many at once."""

import base64
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
import requests

from bad_requests import BROKEN_HTTP, TWO_LENGTHS, two_requests
from rest_process import (
    HOLD,
    HURRY,
    SONG,
    RestProcess,
    answer_on,
    finish,
    form_head,
    health_seconds,
    send,
    start_upload,
)
from rest_support import wav_header
from support import PATIENCE_SECONDS, RedisServer, make_song
from unmix import names

BIG_BYTES = 50 << 20
SENDING_SECONDS = 0.5

#: With this a thread takes its time to send, and says how often the loop of the sockets turned meanwhile.
SLOW_SENDING = f"""
import os, pathlib, time, unmix_rest.http.connection as connection, waitress.wasyncore as wasyncore
turns, poll, send = [], wasyncore.poll2, connection.Connection.send
def counted(*args):
    turns.append(None)
    poll(*args)
def slow(self, data, do_close=True):
    self.server.pull_trigger()
    before = len(turns)
    time.sleep({SENDING_SECONDS})
    pathlib.Path(os.environ["TMPDIR"], "turns").write_text(str(len(turns) - before))
    return send(self, data, do_close)
wasyncore.poll2, connection.Connection.send = counted, slow
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer) -> Iterator[RestProcess]:
    """One process for all tests that need no settings of their own."""
    rest = RestProcess(tmp_path_factory.mktemp("rest"), shared_redis.url).wait_until_ready()
    yield rest
    rest.stop()


def big_song(number: int) -> tuple[bytes, bytes]:
    """A WAV of 50 MB as its header and one second of sound, which repeats; another song for each number."""
    second = make_song(1, number)[44:]
    return wav_header(rate=44_100, channels=2, data_bytes=BIG_BYTES // len(second) * len(second)), second


def big_pieces(number: int) -> Iterator[bytes]:
    header, second = big_song(number)
    yield header
    for _ in range(BIG_BYTES // len(second)):
        yield second


@pytest.mark.slow
def test_sixteen_uploads_of_50_mb_at_once_take_little_memory_and_health_answers(
    start: Callable[..., RestProcess],
) -> None:
    rest = start()
    answers: list[int] = []

    def upload(number: int) -> None:
        length = sum(map(len, big_pieces(number)))
        before, after = form_head(length)
        with rest.connect() as peer:
            for piece in (before, *big_pieces(number), after):
                peer.sendall(piece)
            answers.append(answer_on(peer)[0])

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    asked = 0
    while any(thread.is_alive() for thread in threads):
        health_seconds(rest)
        asked += 1
        time.sleep(0.1)
    assert answers == [200] * 16
    assert asked > 3
    assert rest.queue.views.waiting(limit=99)[1] == 16
    assert rest.peak_rss_mb() < 300
    assert os.listdir(rest.temporary) == []
    print(f"peak RSS of REST: {rest.peak_rss_mb():.0f} MB")


def test_a_song_of_50_mb_in_json_takes_no_more_memory_than_in_a_form(start: Callable[..., RestProcess]) -> None:
    rest = start()
    data = b"".join(big_pieces(99))
    body = json.dumps({"mp3": base64.b64encode(data).decode()})
    answer = requests.post(f"{rest.url}/apiv1/separate", data=body, timeout=PATIENCE_SECONDS)
    assert (answer.status_code, answer.json()["hash"]) == (200, names.hash_song(data))
    assert rest.peak_rss_mb() < 150
    print(f"peak RSS of REST: {rest.peak_rss_mb():.0f} MB")


def test_slow_uploads_block_nobody(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_REST_THREADS="2")
    before, after = form_head(len(SONG))
    slow = [rest.connect() for _ in range(12)]
    for peer in slow:
        peer.sendall(before + SONG[:1000])
    health_seconds(rest)
    assert requests.post(f"{rest.url}/apiv1/separate", files={"file": SONG}, timeout=30).status_code == 200
    for peer in slow:
        peer.sendall(SONG[1000:] + after)
    for peer in slow:
        with peer:
            assert answer_on(peer)[0] == 200


def test_songs_that_are_being_checked_leave_the_rest_answering(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HOLD, UNMIX_REST_THREADS="4")
    cancelled = send(rest, make_song(1, 1)).json()["hash"]
    assert requests.post(f"{rest.url}/apiv1/jobs/{cancelled}/cancel", timeout=30).status_code == 200
    waiting = send(rest, make_song(1, 2)).json()["hash"]
    rest.hold_checks()
    for trace in rest.temporary.glob("checking-*"):
        trace.unlink()
    held = [start_upload(rest, SONG) for _ in range(8)]
    rest.wait_until_checking(3)  # as many as one client may have
    for path in ("healthz", "readyz", "metrics", "apiv1/queue"):
        assert requests.get(f"{rest.url}/{path}", timeout=30).status_code == 200
    assert requests.post(f"{rest.url}/apiv1/jobs/{waiting}/cancel", timeout=30).json()["status"] == "cancelled"
    assert requests.post(f"{rest.url}/apiv1/jobs/{cancelled}/retry", timeout=30).json()["status"] == "queued"
    rest.let_checks_end()  # until now no upload can have got an answer
    for peer in held:
        with peer:
            assert answer_on(peer)[0] == 200


def test_slow_readers_block_nobody(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_REST_THREADS="2")
    job_id = requests.post(f"{rest.url}/apiv1/separate", files={"file": SONG}, timeout=30).json()["hash"]
    finish(rest, job_id, bytes(40 << 20))
    readers = [rest.connect() for _ in range(8)]
    for peer in readers:
        peer.sendall(f"GET /apiv1/track/{job_id}/vocals HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        peer.recv(1)
    health_seconds(rest)
    for peer in readers:
        peer.close()
    assert len(requests.get(f"{rest.url}/apiv1/track/{job_id}/vocals", timeout=30).content) == 40 << 20
    assert rest.peak_rss_mb() < 150


@pytest.mark.parametrize("more", ["", "Expect: 100-continue\r\n"])
def test_ten_gigabytes_are_refused_by_the_headers(shared: RestProcess, more: str) -> None:
    head = f"POST /apiv1/separate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n{more}\r\n"
    with shared.connect() as peer:
        peer.sendall(head.encode())
        status, problem = answer_on(peer)
    assert (status, problem["code"]) == (413, "payload_too_large")
    assert {"title", "detail", "error", "reason", "request_id"} <= set(problem)
    assert "UNMIX_MAX_UPLOAD_MB" in problem["detail"]


def test_a_page_of_another_origin_sees_that_its_song_is_too_large(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_CORS_ORIGINS="https://example.com")
    with rest.connect() as peer:
        peer.sendall(b"POST /apiv1/jobs HTTP/1.1\r\nOrigin: https://example.com\r\nContent-Length: 10000000000\r\n\r\n")
        answer = HTTPResponse(peer)
        answer.begin()
        assert (answer.status, answer.getheader("Access-Control-Allow-Origin")) == (413, "https://example.com")
        assert answer.getheader("Vary") == "Origin"
        answer.close()


def test_a_body_without_end_is_cut_off_at_the_limit(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_MAX_UPLOAD_MB="1")
    with rest.connect() as peer:
        peer.sendall(b"POST /apiv1/separate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 100 << 20:
                peer.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")
                sent += 65536
        except OSError:
            pass
    assert sent < 100 << 20
    health_seconds(rest)
    assert rest.stored() == []


def test_an_old_client_may_send_null_with_its_get(shared: RestProcess) -> None:
    headers = {"content-type": "application/json"}
    with requests.Session() as session:  # over one connection: the body must not be taken for the next request
        for path in ("/apiv1/queue", "/apiv1/queue/", "/"):
            assert session.get(f"{shared.url}{path}", data="null", headers=headers, timeout=30).status_code == 200


def test_a_chunked_upload_is_accepted(shared: RestProcess) -> None:
    connection = HTTPConnection("127.0.0.1", shared.port, timeout=PATIENCE_SECONDS)
    before, after = form_head(len(SONG))
    parts = [before.partition(b"\r\n\r\n")[2], SONG[:70_000], SONG[70_000:], after]
    headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
    connection.request("POST", "/apiv1/separate", body=iter(parts), headers=headers, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["hash"]) == (200, names.hash_song(SONG))
    connection.close()


@pytest.mark.parametrize(("raw", "status", "code"), BROKEN_HTTP, ids=lambda value: str(value)[:40])
def test_broken_http_is_answered_in_the_form_of_all_errors(
    shared: RestProcess, raw: bytes, status: int, code: str
) -> None:
    with shared.connect() as peer:
        peer.sendall(raw)
        answered, problem = answer_on(peer)
    assert (answered, problem["code"], problem["status"]) == (status, code, status)


@pytest.mark.parametrize("head", TWO_LENGTHS)
def test_what_follows_a_request_of_two_lengths_is_no_second_request(shared: RestProcess, head: bytes) -> None:
    with shared.connect() as peer:
        peer.sendall(two_requests(head))
        answers = b""
        while received := peer.recv(65536):
            answers += received
    assert answers.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert answers.count(b"HTTP/1.") == 1


def test_a_client_that_drops_in_the_middle_leaves_nothing(start: Callable[..., RestProcess]) -> None:
    rest = start()
    before, _ = form_head(len(SONG) + 10_000_000)
    for _ in range(5):
        with rest.connect() as peer:
            peer.sendall(before + SONG)
    health_seconds(rest)
    rest.wait_for(lambda: rest.open_files() == {}, "the temporary files are closed")
    assert os.listdir(rest.temporary) == []
    assert rest.stored() == []


def test_a_body_shorter_than_announced_ends_with_the_connection(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HURRY)
    before, _ = form_head(len(SONG) + 100)
    with rest.connect() as peer:
        peer.sendall(before + SONG)
        assert not peer.recv(1000).startswith(b"HTTP/1.1 2")
    assert rest.stored() == []


def has_answer(peer: socket.socket) -> bool:
    """Send one more byte; whether there is an answer."""
    peer.sendall(b"a")
    return bool(select.select([peer], [], [], 0.1)[0])


def test_who_sent_much_and_then_trickles_is_cut_off_all_the_same(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HURRY)
    with rest.connect() as peer:
        peer.sendall(form_head(50_000_000)[0] + bytes(10_000_000))  # enough for a thousand seconds at the least speed
        rest.wait_for(lambda: rest.kept_bytes() >= 9_000_000, "it comes in")
        rest.wait_for(lambda: has_answer(peer), "it is cut off")
        assert answer_on(peer)[1]["code"] == "too_slow"
    rest.wait_for(lambda: rest.kept_bytes() == 0, "there is room again")


def test_clients_that_trickle_are_cut_off_and_slow_but_steady_ones_are_not(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HURRY)
    before, after = form_head(len(SONG))
    trickling = [rest.connect() for _ in range(3)]
    for peer, beginning in zip(trickling, (b"", b"GET / HTTP/1.1\r\nX: ", before), strict=True):
        peer.sendall(beginning)
    steady = rest.connect()
    steady.sendall(before)
    cut_off: set[int] = set()
    rounds = 0
    while len(cut_off) < 3 or rounds < 20:
        rounds += 1
        assert rounds < PATIENCE_SECONDS / 0.2, f"only {cut_off} were cut off"
        for number, peer in enumerate(trickling):
            try:
                peer.sendall(b"a")
            except OSError:
                cut_off.add(number)
        if rounds <= 20:
            steady.sendall(SONG[(rounds - 1) * 20_000 : rounds * 20_000])
        time.sleep(0.2)
    steady.sendall(after)
    assert answer_on(steady)[0] == 200
    for peer in (*trickling, steady):
        peer.close()


def test_it_waits_for_redis_and_says_so(own_redis: RedisServer, tmp_path: Path) -> None:
    own_redis.kill()
    rest = RestProcess(tmp_path, own_redis.url)
    try:
        rest.wait_for(lambda: "waiting" in rest.log.read_text(), "it says that it waits")
        assert "redis" in rest.log.read_text()
        own_redis.start()
        rest.wait_until_ready()
    finally:
        rest.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UNMIX_PORT", "many"),
        ("UNMIX_STORE_URL", "ftp://store"),
        ("UNMIX_MAX_UPLOAD_MB", "0"),
        ("UNMIX_CORS_ORIGINS", "https://example.com/"),
    ],
)
def test_a_wrong_setting_ends_it_with_a_word_about_it(tmp_path: Path, redis_url: str, name: str, value: str) -> None:
    rest = RestProcess(tmp_path, redis_url, **{name: value})
    try:
        assert rest.process.wait(timeout=30) == 1
        assert name.removeprefix("UNMIX_").lower() in rest.log.read_text().lower() or value in rest.log.read_text()
        assert "Traceback" not in rest.log.read_text()
    finally:
        rest.stop()


def test_the_loop_of_the_sockets_does_not_spin_while_a_thread_sends(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=SLOW_SENDING)
    assert requests.get(f"{rest.url}/healthz", timeout=PATIENCE_SECONDS).json() == {"status": "ok"}
    turns = int((rest.temporary / "turns").read_text())
    assert 1 <= turns <= SENDING_SECONDS * 2000, "each turn takes a millisecond while a thread sends, not microseconds"
