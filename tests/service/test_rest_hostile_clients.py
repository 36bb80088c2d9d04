"""REST as a process before clients that want it stopped: pipelines, slow crowds, floods of bodies, endless frames.

Every attack here is bounded in bytes, connections and seconds, and comes from and stays on this machine.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import pytest
import requests

from rest_process import HURRY, SONG, RestProcess, answer_on, finish, form_head, health_seconds, send
from support import PATIENCE_SECONDS, make_song

STEM_BYTES = 12 << 20
SMALL_BUFFER_BYTES = 16 * 1024

#: With this the application says who it takes the client to be, in the log.
SHOW_CLIENT = """
import unmix_rest.routes.ops as ops
from flask import request
def version(services):
    return ops.json_answer(ops.Version(f"{request.remote_addr} {request.scheme} {request.host}", "0"))
version.__module__, version.__name__, version.__doc__ = "unmix_rest.routes.ops", "show_version", "Tell."
ops.show_version = version
"""
#: With this there are few places for connections.
FEW_PLACES = "import unmix_rest.http.places as places; places.MOST_CONNECTIONS = 20"


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """What is closed when the test ends."""
    with ExitStack() as stack:
        yield stack


def lazy_connection(rest: RestProcess) -> socket.socket:
    """Connect with a small buffer for what comes, so that the other side soon has to wait."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    peer.settimeout(PATIENCE_SECONDS)
    peer.connect(("127.0.0.1", rest.port))
    return peer


def request_of(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def is_cut_off(peer: socket.socket, most_bytes: int = 1 << 30) -> bool:
    """Read what is left; whether the connection ended before so many bytes."""
    received = 0
    try:
        while received < most_bytes:
            part = peer.recv(1 << 16)
            if not part:
                return True
            received += len(part)
    except ConnectionError:
        return True
    return False


def with_stem(rest: RestProcess) -> str:
    """Return the path of a stem of some MB."""
    job_id = send(rest, SONG).json()["hash"]
    finish(rest, job_id, os.urandom(1 << 20) * (STEM_BYTES >> 20))
    return f"/apiv1/track/{job_id}/vocals"


def test_who_asks_for_many_stems_at_once_and_reads_none_costs_neither_disk_nor_memory(
    start: Callable[..., RestProcess], held: ExitStack
) -> None:
    rest = start()
    path = with_stem(rest)
    peers = [held.enter_context(lazy_connection(rest)) for _ in range(9)]
    before = rest.peak_rss_mb()
    for peer in peers:
        peer.sendall(request_of(path) * 40)
    most = 0
    for _ in range(20):
        health_seconds(rest)
        most = max(most, rest.kept_bytes())
        time.sleep(0.1)
    assert most < STEM_BYTES
    assert rest.peak_rss_mb() - before < 100


def test_requests_that_came_at_once_are_answered_one_after_the_other(start: Callable[..., RestProcess]) -> None:
    rest = start()
    path = with_stem(rest)
    asked = [request_of("/version"), request_of(path), request_of("/healthz"), request_of(path), request_of("/queue")]
    with rest.connect() as peer:
        peer.sendall(b"".join(asked[:-1]) + asked[-1].replace(b"Host", b"Connection: close\r\nHost"))
        said = b"".join(iter(lambda: peer.recv(1 << 16), b""))
    assert said.count(b"HTTP/1.1 200 OK\r\n") == 4
    assert said.count(b"HTTP/1.1 404 NOT FOUND\r\n") == 1
    assert len(said) > 2 * STEM_BYTES


def test_who_does_not_read_is_cut_off_and_who_reads_slowly_is_not(
    start: Callable[..., RestProcess], held: ExitStack
) -> None:
    rest = start(patch=HURRY)
    path = with_stem(rest)
    deaf = [held.enter_context(lazy_connection(rest)) for _ in range(3)]
    slow = held.enter_context(lazy_connection(rest))
    for peer in (*deaf, slow):
        peer.sendall(request_of(path))
    received = 0
    for _ in range(40):
        received += len(slow.recv(1 << 15))
        time.sleep(0.1)
    assert all(is_cut_off(peer, STEM_BYTES) for peer in deaf)
    assert not is_cut_off(slow, STEM_BYTES - received)


def test_where_no_thread_may_wait_stems_are_kept_for_their_clients_as_long_as_there_is_room(
    start: Callable[..., RestProcess], held: ExitStack
) -> None:
    patch = f"import unmix_rest.http.connection as connection; connection.MOST_KEPT_BYTES = {2 * STEM_BYTES}"
    rest = start(patch=patch, UNMIX_REST_STREAMS="0")
    path = with_stem(rest)
    for _ in range(2):
        peer = held.enter_context(lazy_connection(rest))
        peer.sendall(request_of(path))
        assert peer.recv(12) == b"HTTP/1.1 200"
    rest.wait_for(lambda: rest.kept_bytes() > STEM_BYTES, "what was asked for is kept")
    answer = requests.get(rest.url + path, timeout=PATIENCE_SECONDS)
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_downloads")
    assert requests.head(rest.url + path, timeout=PATIENCE_SECONDS).status_code == 200
    part = requests.get(rest.url + path, headers={"Range": "bytes=0-99"}, timeout=PATIENCE_SECONDS)
    assert (part.status_code, len(part.content)) == (206, 100)


@pytest.mark.parametrize(
    "beginning", [b"", b"POST /apiv1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"]
)
def test_a_crowd_that_sends_next_to_nothing_keeps_nobody_out(
    start: Callable[..., RestProcess], held: ExitStack, beginning: bytes
) -> None:
    rest = start(patch=FEW_PLACES)
    quick = held.enter_context(rest.connect())
    before, after = form_head(len(SONG))
    quick.sendall(before + SONG[:-1])
    for _ in range(60):
        held.enter_context(rest.connect()).sendall(beginning)
    health_seconds(rest)
    assert send(rest, make_song(1, 2)).status_code == 200
    quick.sendall(SONG[-1:] + after)
    assert answer_on(quick)[0] == 200


def test_bodies_that_come_in_take_so_much_of_the_disk_and_those_of_one_client_leave_room_to_others(
    start: Callable[..., RestProcess], held: ExitStack
) -> None:
    rest = start(UNMIX_UPLOAD_ROOM_MB="48")
    head = b"POST /apiv1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12000000\r\n\r\n"
    first = held.enter_context(rest.connect())
    first.sendall(head + bytes(10_000_000))
    rest.wait_for(lambda: rest.kept_bytes() > 9_000_000, "the body comes in")
    refused = held.enter_context(rest.connect())
    refused.sendall(head)
    assert refused_with(refused) == (503, "no_room", "5")
    chunked = held.enter_context(rest.connect())
    chunked.sendall(b"POST /apiv1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n400000\r\n")
    chunked.sendall(bytes(0x400000))
    assert refused_with(chunked) == (503, "no_room", "5")
    assert send(rest, make_song(0.2, 3)).status_code == 200, "what is small stays in memory"
    with rest.connect("127.0.0.2") as other:
        other.sendall(b"POST /apiv1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n")
        other.sendall(bytes(3_000_000))
        assert answer_on(other)[1]["code"] == "not_audio"
    first.close()
    rest.wait_for(lambda: rest.kept_bytes() == 0, "the body is gone")
    for _ in range(2):
        answer = requests.post(f"{rest.url}/apiv1/jobs", data=bytes(6_000_000), timeout=PATIENCE_SECONDS)
        assert answer.json()["code"] == "not_audio"


def test_who_is_refused_and_sends_on_still_reads_why(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_UPLOAD_ROOM_MB="8")
    for _ in range(3):
        pieces = (bytes(1 << 20) for _ in range(40))
        for body in (bytes(40 << 20), pieces):
            answer = requests.post(f"{rest.url}/apiv1/jobs", data=body, timeout=PATIENCE_SECONDS)
            assert (answer.status_code, answer.json()["code"]) == (503, "no_room")


def refused_with(peer: socket.socket) -> tuple[int, str, str | None]:
    """Read the status, the code of the error, and when to come again."""
    answer = HTTPResponse(peer)
    answer.begin()
    with answer:
        return answer.status, json.loads(answer.read())["code"], answer.getheader("Retry-After")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_body_for_which_the_disk_has_no_room_is_refused(start: Callable[..., RestProcess], tmp_path: Path) -> None:
    rest = start()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", rest.temporary], check=False)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        with rest.connect() as peer:
            peer.sendall(b"POST /apiv1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000000\r\n\r\n")
            assert refused_with(peer) == (503, "no_room", "5")
        with rest.connect() as peer:
            peer.sendall(
                b"POST /apiv1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nB00000\r\n"
            )
            peer.sendall(bytes(0xB00000))
            assert refused_with(peer) == (503, "no_room", "5")
        health_seconds(rest)
        assert send(rest, SONG).status_code == 200
    finally:
        rest.stop()
        subprocess.run(["umount", rest.temporary], check=True)


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"1;", b"a=b;" * 16_000),
        (b"", b"0" * 64_000),
        (b"0\r\n", b"X: y\r\n" * 10_000),
        (b"", b"1\r\nx\r\n" * 10_000),
        (b"", b"1;a=bcdefgh\r\nx\r\n" * 4_000),
    ],
    ids=["extension", "size", "trailers", "tiny chunks", "tiny chunks with extensions"],
)
def test_a_body_that_is_more_frames_than_song_is_refused_after_some_kilobytes(
    start: Callable[..., RestProcess], beginning: bytes, piece: bytes
) -> None:
    rest = start()
    sent = 0
    with rest.connect() as peer:
        peer.sendall(b"POST /apiv1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + beginning)
        try:
            while sent < 16 << 20:
                peer.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
    assert sent < 16 << 20
    health_seconds(rest)


def test_a_song_in_chunks_of_any_usual_size_is_taken(start: Callable[..., RestProcess]) -> None:
    rest = start()
    for number, size in enumerate((100, 4096, 70_000)):
        song = make_song(1, number)
        pieces = (song[begin : begin + size] for begin in range(0, len(song), size))
        answer = requests.post(f"{rest.url}/apiv1/jobs", data=pieces, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 202


FORWARDED = {"X-Forwarded-For": "192.0.2.1, 192.0.2.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "songs.test"}


def test_what_a_client_says_of_itself_is_believed_of_the_trusted_proxy_only(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=SHOW_CLIENT)
    answer = requests.get(f"{rest.url}/version", headers=FORWARDED, timeout=PATIENCE_SECONDS)
    assert answer.json()["name"] == f"127.0.0.1 http 127.0.0.1:{rest.port}"


def test_who_the_client_is_says_the_trusted_proxy(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=SHOW_CLIENT, UNMIX_TRUSTED_PROXY="127.0.0.1", UNMIX_OPEN="yes", UNMIX_HOSTS="songs.test")
    answer = requests.get(f"{rest.url}/version", headers=FORWARDED, timeout=PATIENCE_SECONDS)
    assert answer.json()["name"] == "192.0.2.9 https songs.test"
