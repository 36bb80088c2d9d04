"""REST as a process that is asked to end: what is under way is answered, and nobody holds it up for ever."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPResponse

import pytest

from rest_process import HOLD, SONG, RestProcess, answer_on, finish, form_head, health_seconds, send, start_upload
from support import PATIENCE_SECONDS, make_song
from unmix import names


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(start: Callable[..., RestProcess], number: int) -> None:
    rest = start()
    with rest.connect(), rest.connect() as used:  # idle connections do not hold it up
        used.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer_on(used)[0] == 200
        rest.process.send_signal(number)
        assert rest.process.wait(timeout=30) == 0
    assert "rest stopped" in rest.log.read_text()
    assert "cuts off" not in rest.log.read_text()


def test_an_upload_under_way_is_answered_before_the_end(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HOLD, UNMIX_REST_THREADS="2")
    rest.hold_checks()
    peers = [start_upload(rest, make_song(1, number)) for number in range(4)]
    rest.wait_until_checking(3)  # as many as one client may have; the last one waits
    rest.ask_to_end()
    rest.let_checks_end()
    for peer in peers:
        with peer:
            assert answer_on(peer)[0] == 200
    assert rest.process.wait(timeout=30) == 0
    assert rest.queue.views.waiting(limit=9)[1] == 4


def test_a_slow_upload_comes_in_whole_before_the_end(start: Callable[..., RestProcess]) -> None:
    rest = start()
    before, after = form_head(len(SONG))
    with rest.connect() as peer:
        peer.sendall(before + SONG[:1000])
        health_seconds(rest)  # once this is answered, those bytes were read too
        rest.ask_to_end()
        for piece in (SONG[1000:5000], SONG[5000:], after):
            peer.sendall(piece)
            time.sleep(0.2)
        response = HTTPResponse(peer)
        response.begin()
        assert (response.status, response.getheader("Connection")) == (200, "close")
        assert json.loads(response.read())["hash"] == names.hash_song(SONG)
        assert peer.recv(1) == b""
    assert rest.process.wait(timeout=30) == 0
    assert rest.queue.views.waiting(limit=9)[1] == 1


def test_requests_that_were_read_before_the_end_are_all_answered(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HOLD)
    rest.hold_checks()
    song = make_song(0.2, 1)
    before, after = form_head(len(song))
    more = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with rest.connect() as peer:
        rest.pause()  # it will read all at once
        peer.sendall(before + song + after + 2 * more)
        rest.process.send_signal(signal.SIGCONT)
        rest.wait_until_checking(1)
        rest.ask_to_end()
        rest.let_checks_end()
        said = b"".join(iter(lambda: peer.recv(65536), b""))
    assert said.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert said.count(b"\r\nConnection: close\r\n") == 1
    assert said.index(b"Connection: close") > said.rindex(b"HTTP/1.1 200 OK"), "it stands in the last answer"
    assert rest.process.wait(timeout=30) == 0


def test_who_has_connected_before_the_end_is_answered(start: Callable[..., RestProcess]) -> None:
    rest = start()
    rest.pause()
    peers = [rest.connect() for _ in range(5)]  # by the kernel alone
    for peer in peers:
        peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    rest.process.send_signal(signal.SIGTERM)
    rest.process.send_signal(signal.SIGCONT)
    for peer in peers:
        with peer:
            assert answer_on(peer)[0] == 200
    assert rest.process.wait(timeout=30) == 0


def start_download(rest: RestProcess, vocals: bytes, *, half_way: Callable[[], None] = lambda: None) -> HTTPResponse:
    """Ask for a stem over a narrow connection, and return the answer when it has begun.

    `half_way` is called when half of the request was read.
    """
    job_id = send(rest, SONG).json()["hash"]
    finish(rest, job_id, vocals)
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(PATIENCE_SECONDS)
    peer.connect(("127.0.0.1", rest.port))
    peer.sendall(f"GET /apiv1/track/{job_id}/vocals HTTP/1.1\r\n".encode())
    health_seconds(rest)  # once this is answered, the line above was read too
    half_way()
    peer.sendall(b"Host: localhost\r\n\r\n")
    response = HTTPResponse(peer)
    response.begin()
    peer.close()  # the response keeps the connection
    return response


def test_a_slow_download_goes_out_whole_before_the_end(start: Callable[..., RestProcess]) -> None:
    rest = start()
    vocals = os.urandom(20 << 20)
    with start_download(rest, vocals) as response:
        rest.ask_to_end()
        received = b""
        for _ in range(20):
            received += response.read(64 << 10)
            time.sleep(0.05)
        assert received + response.read() == vocals
    assert rest.process.wait(timeout=30) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a client has not got yet")
@pytest.mark.parametrize("asked_to_end", ["during the answer", "during the request"])
def test_it_does_not_end_before_a_client_has_got_what_the_kernel_holds(
    start: Callable[..., RestProcess], asked_to_end: str
) -> None:
    rest = start()
    vocals = os.urandom(1 << 20)  # fits into the buffers of the kernel
    half_way = rest.ask_to_end if asked_to_end == "during the request" else lambda: None
    with start_download(rest, vocals, half_way=half_way) as response:
        rest.ask_to_end()  # a second signal changes nothing
        with pytest.raises(subprocess.TimeoutExpired):
            rest.process.wait(timeout=1)
        assert response.read() == vocals
    assert rest.process.wait(timeout=30) == 0


@pytest.mark.parametrize("size_bytes", [1 << 20, 20 << 20])
def test_a_client_that_goes_does_not_hold_up_the_end(start: Callable[..., RestProcess], size_bytes: int) -> None:
    rest = start()
    with start_download(rest, bytes(size_bytes)):
        rest.ask_to_end()
    assert rest.process.wait(timeout=30) == 0


def test_clients_that_never_end_are_cut_off_after_the_grace(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_REST_SHUTDOWN_SECONDS="1")
    before, _ = form_head(len(SONG))
    with start_download(rest, bytes(20 << 20)), rest.connect() as peer:
        peer.sendall(before + SONG[:1000])
        health_seconds(rest)
        rest.process.send_signal(signal.SIGTERM)
        assert rest.process.wait(timeout=30) == 0
    assert "cuts off" in rest.log.read_text()
    assert "connections=2" in rest.log.read_text()
