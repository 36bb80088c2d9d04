"""REST as a process behind a real port: slow, huge and broken clients, many at once, and an end in good order."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import requests

from rest_support import wav_header
from support import PATIENCE_SECONDS, RedisServer, eventually, free_port, make_song
from unmix import names
from unmix.job import JobStatus, Outcome, Ran, StemFile
from unmix.ledger.ledger import Ledger, utc_now
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore

SONG = make_song(2, 1)
BIG_BYTES = 50 << 20

#: With this a client has to be quicker, so that the tests need not be slow.
HURRY = """
import unmix_rest.http.connection as connection, unmix_rest.http.server as server
server.IDLE_SECONDS, connection.SLOWEST_BYTES_PER_SECOND = 1, 10_000
create_server = server.create_server
server.create_server = lambda app, **options: create_server(app, **options | {"cleanup_interval": 1})
"""

#: With this the check of a song lasts as long as the file `hold` lies in the temporary folder.
HOLD = """
import os, pathlib, threading, time, unmix.audio.probe
folder, check = pathlib.Path(os.environ["TMPDIR"]), unmix.audio.probe.Probe.check
def held(*args):
    (folder / f"checking-{threading.get_ident()}").touch()
    while (folder / "hold").exists():
        time.sleep(0.02)
    return check(*args)
unmix.audio.probe.Probe.check = held
"""


class RestProcess:
    """`python -m unmix_rest` on a free port; `patch` is Python that runs in it first."""

    def __init__(self, folder: Path, redis_url: str, *, patch: str = "", **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.store = FileStore(folder / "store")
        self.queue = JobQueue(redis_url)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.log = folder / "rest.log"
        environment = {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "UNMIX_REDIS_URL": redis_url,
            "UNMIX_STORE_URL": f"file://{folder / 'store'}",
            "UNMIX_MODEL": "demo",
            "UNMIX_PORT": str(self.port),
            **settings,
        }
        command = ["-c", f"{patch}\nimport sys, unmix_rest.__main__ as rest\nsys.exit(rest.main())"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(command if patch else ["-m", "unmix_rest"])], env=environment, stdout=log, stderr=log
            )

    def wait_until_ready(self) -> "RestProcess":
        self.wait_for(self._is_ready, "REST answers")
        return self

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        eventually(condition, what, explain=lambda: self.log.read_text()[-3000:])

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.queue.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def ask_to_end(self) -> None:
        """Send SIGTERM, and return when nobody can connect any more."""
        self.process.send_signal(signal.SIGTERM)
        self.wait_for(lambda: "takes no more connections" in self.log.read_text(), "the port is closed")
        with pytest.raises(ConnectionRefusedError):
            self.connect()

    def pause(self) -> None:
        """Stop the process until SIGCONT."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def hold_checks(self) -> None:
        """Let no check of a song end; the process was started with `HOLD`."""
        (self.temporary / "hold").touch()

    def let_checks_end(self) -> None:
        (self.temporary / "hold").unlink()

    def wait_until_checking(self, songs: int) -> None:
        self.wait_for(lambda: len([*self.temporary.glob("checking-*")]) == songs, f"{songs} songs are being checked")

    def stored(self) -> list[str]:
        return [str(info.name) for bucket in ("queue", "output") for info in self.store.list(bucket)]

    def peak_rss_mb(self) -> float:
        """The most memory that the process itself has held."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no VmHWM")

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except requests.ConnectionError:
            return False


def answer_on(peer: socket.socket) -> tuple[int, dict[str, Any]]:
    """Read the status and the JSON of the next answer."""
    response = HTTPResponse(peer)
    response.begin()
    with response:
        return response.status, json.loads(response.read())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer) -> Iterator[RestProcess]:
    """One process for all tests that need no settings of their own."""
    rest = RestProcess(tmp_path_factory.mktemp("rest"), shared_redis.url).wait_until_ready()
    yield rest
    rest.stop()


@pytest.fixture
def start(tmp_path: Path, redis_url: str) -> Iterator[Callable[..., RestProcess]]:
    """Start REST over an empty queue and an empty store."""
    started: list[RestProcess] = []

    def start(**options: str) -> RestProcess:
        started.append(RestProcess(tmp_path, redis_url, **options))
        return started[-1].wait_until_ready()

    yield start
    for rest in started:
        rest.stop()


def form_head(length: int, boundary: str = "b0undary") -> tuple[bytes, bytes]:
    """What comes before and after a song of `length` bytes in a form, the HTTP headers included."""
    before = (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="song.wav"\r\n\r\n').encode()
    after = f"\r\n--{boundary}--\r\n".encode()
    head = (
        "POST /apiv1/separate HTTP/1.1\r\nHost: rest\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Content-Length: {len(before) + length + len(after)}\r\n\r\n"
    ).encode()
    return head + before, after


def big_song(number: int) -> tuple[bytes, bytes]:
    """A WAV of 50 MB as its header and one second of sound, which repeats; another song for each number."""
    second = make_song(1, number)[44:]
    return wav_header(rate=44_100, channels=2, data_bytes=BIG_BYTES // len(second) * len(second)), second


def big_pieces(number: int) -> Iterator[bytes]:
    header, second = big_song(number)
    yield header
    for _ in range(BIG_BYTES // len(second)):
        yield second


def health_seconds(rest: RestProcess) -> float:
    began = time.monotonic()
    assert requests.get(f"{rest.url}/healthz", timeout=PATIENCE_SECONDS).status_code == 200
    return time.monotonic() - began


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
    rest.wait_until_checking(2)  # every thread that uploads have
    for path in ("healthz", "readyz", "metrics", "apiv1/queue"):
        assert requests.get(f"{rest.url}/{path}", timeout=30).status_code == 200
    assert requests.post(f"{rest.url}/apiv1/jobs/{waiting}/cancel", timeout=30).json()["status"] == "cancelled"
    assert requests.post(f"{rest.url}/apiv1/jobs/{cancelled}/retry", timeout=30).json()["status"] == "queued"
    rest.let_checks_end()  # until now no upload can have got an answer
    for peer in held:
        with peer:
            assert answer_on(peer)[0] == 200


def send(rest: RestProcess, song: bytes) -> requests.Response:
    answer = requests.post(f"{rest.url}/apiv1/separate", files={"file": song}, timeout=30)
    assert answer.status_code == 200
    return answer


def start_upload(rest: RestProcess, song: bytes) -> socket.socket:
    """Send a whole song, and return the connection on which the answer will come."""
    before, after = form_head(len(song))
    peer = rest.connect()
    peer.sendall(before + song + after)
    return peer


def test_slow_readers_block_nobody(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_REST_THREADS="2")
    job_id = requests.post(f"{rest.url}/apiv1/separate", files={"file": SONG}, timeout=30).json()["hash"]
    finish(rest, job_id, bytes(40 << 20))
    readers = [rest.connect() for _ in range(8)]
    for peer in readers:
        peer.sendall(f"GET /apiv1/track/{job_id}/vocals HTTP/1.1\r\nHost: rest\r\n\r\n".encode())
        peer.recv(1)
    health_seconds(rest)
    for peer in readers:
        peer.close()
    assert len(requests.get(f"{rest.url}/apiv1/track/{job_id}/vocals", timeout=30).content) == 40 << 20
    assert rest.peak_rss_mb() < 150


def finish(rest: RestProcess, job_id: str, vocals: bytes) -> None:
    """End the job as a worker would."""
    ledger = Ledger(rest.store)
    request = ledger.request(job_id)
    assert request is not None
    name = names.attempt_object(job_id, "token", "vocals", "mp3")
    rest.store.put(name, vocals)
    ledger.commit(
        Outcome(
            job_id,
            request.generation,
            JobStatus.DONE,
            utc_now(),
            stems={"vocals": StemFile(name.key, len(vocals), names.hash_song(vocals))},
            ran=Ran("demo", "ab" * 32, "cpu", 44_100, 2.0, 0.5),
        )
    )


@pytest.mark.parametrize("more", ["", "Expect: 100-continue\r\n"])
def test_ten_gigabytes_are_refused_by_the_headers(shared: RestProcess, more: str) -> None:
    head = f"POST /apiv1/separate HTTP/1.1\r\nHost: rest\r\nContent-Length: 10000000000\r\n{more}\r\n"
    with shared.connect() as peer:
        peer.sendall(head.encode())
        status, problem = answer_on(peer)
    assert (status, problem["code"]) == (413, "payload_too_large")
    assert {"title", "detail", "error", "reason", "request_id"} <= set(problem)


def test_a_body_without_end_is_cut_off_at_the_limit(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_MAX_UPLOAD_MB="1")
    with rest.connect() as peer:
        peer.sendall(b"POST /apiv1/separate HTTP/1.1\r\nHost: rest\r\nTransfer-Encoding: chunked\r\n\r\n")
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


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "not_implemented"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_broken_http_is_answered_in_the_form_of_all_errors(
    shared: RestProcess, raw: bytes, status: int, code: str
) -> None:
    with shared.connect() as peer:
        peer.sendall(raw)
        answered, problem = answer_on(peer)
    assert (answered, problem["code"], problem["status"]) == (status, code, status)


def test_a_client_that_drops_in_the_middle_leaves_nothing(start: Callable[..., RestProcess]) -> None:
    rest = start()
    before, _ = form_head(len(SONG) + 10_000_000)
    for _ in range(5):
        with rest.connect() as peer:
            peer.sendall(before + SONG)
    health_seconds(rest)
    rest.wait_for(lambda: open_files(rest) == [], "the temporary files are closed")
    assert os.listdir(rest.temporary) == []
    assert rest.stored() == []


def open_files(rest: RestProcess) -> list[str]:
    """The files in the temporary folder that the process holds open, those without a name included."""
    links = [os.readlink(link) for link in Path(f"/proc/{rest.process.pid}/fd").iterdir() if link.is_symlink()]
    return [link for link in links if link.startswith(str(rest.temporary))]


def test_a_body_shorter_than_announced_ends_with_the_connection(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HURRY)
    before, _ = form_head(len(SONG) + 100)
    with rest.connect() as peer:
        peer.sendall(before + SONG)
        assert peer.recv(1000) == b""
    assert rest.stored() == []


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(start: Callable[..., RestProcess], number: int) -> None:
    rest = start()
    with rest.connect(), rest.connect() as used:  # idle connections do not hold it up
        used.sendall(b"GET /healthz HTTP/1.1\r\nHost: rest\r\n\r\n")
        assert answer_on(used)[0] == 200
        rest.process.send_signal(number)
        assert rest.process.wait(timeout=30) == 0
    assert "rest stopped" in rest.log.read_text()
    assert "cuts off" not in rest.log.read_text()


def test_an_upload_under_way_is_answered_before_the_end(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HOLD, UNMIX_REST_THREADS="2")
    rest.hold_checks()
    peers = [start_upload(rest, make_song(1, number)) for number in range(3)]
    rest.wait_until_checking(1)  # the others wait for the one thread that uploads have
    rest.ask_to_end()
    rest.let_checks_end()
    for peer in peers:
        with peer:
            assert answer_on(peer)[0] == 200
    assert rest.process.wait(timeout=30) == 0
    assert rest.queue.views.waiting(limit=9)[1] == 3


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
    more = b"GET /healthz HTTP/1.1\r\nHost: rest\r\n\r\n"
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
        peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: rest\r\n\r\n")
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
    peer.sendall(b"Host: rest\r\n\r\n")
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
    ("name", "value"), [("UNMIX_PORT", "many"), ("UNMIX_STORE_URL", "ftp://store"), ("UNMIX_MAX_UPLOAD_MB", "0")]
)
def test_a_wrong_setting_ends_it_with_a_word_about_it(tmp_path: Path, redis_url: str, name: str, value: str) -> None:
    rest = RestProcess(tmp_path, redis_url, **{name: value})
    try:
        assert rest.process.wait(timeout=30) == 1
        assert name.removeprefix("UNMIX_").lower() in rest.log.read_text().lower() or value in rest.log.read_text()
        assert "Traceback" not in rest.log.read_text()
    finally:
        rest.stop()
