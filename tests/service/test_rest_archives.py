"""All stems as one download, behind a real port: slow clients cost neither memory nor disk, and keep nobody waiting."""

from collections.abc import Callable
from contextlib import ExitStack
from io import BytesIO
from socket import SO_RCVBUF, SOL_SOCKET, socket
from zipfile import ZipFile

import psutil
import requests

from rest_process import HURRY, SONG, RestProcess, finish, health_seconds, send
from support import PATIENCE_SECONDS, eventually

#: So many that what is kept of them is seen.
SIZE = 120 << 20


def done(rest: RestProcess, size_bytes: int) -> str:
    """Have a job with one large stem, and return the path of its archive."""
    job_id = send(rest, SONG).json()["hash"]
    finish(rest, job_id, bytes(size_bytes))
    return f"/apiv1/jobs/{job_id}/stems.zip"


def begin(rest: RestProcess, path: str) -> socket:
    """Ask for an archive, and read its beginning."""
    peer = rest.connect()
    peer.setsockopt(SOL_SOCKET, SO_RCVBUF, 64 * 1024)
    peer.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert peer.recv(12) == b"HTTP/1.1 200"
    return peer


def test_clients_that_do_not_read_cost_next_to_nothing_and_others_are_answered(
    start: Callable[..., RestProcess],
) -> None:
    rest = start(UNMIX_REST_THREADS="2")
    path = done(rest, SIZE)
    before = rest.peak_rss_mb()
    with ExitStack() as readers:
        for _ in range(8):
            readers.enter_context(begin(rest, path))
        eventually(lambda: psutil.Process(rest.process.pid).cpu_percent(0.3) < 5, "they are waited for without work")
        health_seconds(rest)
        send(rest, SONG)
        # The song that was just sent goes a moment after its answer.
        eventually(lambda: rest.kept_bytes() == 0, "nothing of the archives is on the disk")
        archive = requests.get(rest.url + path, timeout=PATIENCE_SECONDS)
    with ZipFile(BytesIO(archive.content)) as opened:
        assert opened.testzip() is None
        assert {entry.filename: entry.file_size for entry in opened.infolist()} == {"vocals.mp3": SIZE}
    assert len(archive.content) == int(archive.headers["Content-Length"])
    assert rest.peak_rss_mb() < before + 40


def test_a_client_that_reads_on_gets_all_of_it_however_long_it_slept(start: Callable[..., RestProcess]) -> None:
    rest = start()
    with begin(rest, done(rest, 30 << 20)) as peer:
        for _ in range(3):
            eventually(lambda: psutil.Process(rest.process.pid).cpu_percent(0.2) < 5, "all that fits is sent")
            peer.recv(1 << 20)
        received = 0
        while received < 25 << 20:
            received += len(peer.recv(1 << 20))


def test_a_client_that_goes_makes_room(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_REST_STREAMS="1")
    path = done(rest, 30 << 20)
    peer = begin(rest, path)
    refused = requests.get(rest.url + path, timeout=PATIENCE_SECONDS)
    assert (refused.status_code, refused.json()["code"]) == (503, "too_many_downloads")
    peer.close()
    eventually(lambda: requests.head(rest.url + path, timeout=PATIENCE_SECONDS).ok, "there is room again")


def test_a_client_that_does_not_read_for_long_is_cut_off(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HURRY, UNMIX_REST_STREAMS="1")
    path = done(rest, 30 << 20)
    with begin(rest, path):
        eventually(lambda: requests.head(rest.url + path, timeout=PATIENCE_SECONDS).ok, "there is room again")
    assert "Traceback" not in rest.log.read_text()


def test_an_archive_under_way_goes_out_whole_before_the_end(start: Callable[..., RestProcess]) -> None:
    rest = start()
    path = done(rest, 30 << 20)
    with requests.get(rest.url + path, stream=True, timeout=PATIENCE_SECONDS) as answer:
        rest.ask_to_end()
        assert len(answer.content) == int(answer.headers["Content-Length"])
    assert rest.process.wait(timeout=PATIENCE_SECONDS) == 0
    assert "cuts off" not in rest.log.read_text()
