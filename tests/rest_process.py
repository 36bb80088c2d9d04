"""REST as a process behind a real port, and what clients send to it by hand."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import requests

from support import PATIENCE_SECONDS, eventually, free_port, make_song
from unmix import names
from unmix.job import JobStatus
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome, Ran, StemFile
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore

SONG = make_song(2, 1)


#: With this a client has to be quicker, so that the tests need not be slow.
HURRY = """
import unmix_rest.http.pace as pace, unmix_rest.http.server as server
server.IDLE_SECONDS, pace.SLOWEST_BYTES_PER_SECOND = 1, 10_000
create_server = server.create_server
server.create_server = lambda app, **options: create_server(app, **options | {"cleanup_interval": 1})
"""


#: With this the check of a song lasts as long as the file `hold` lies in the temporary folder.
HOLD = """
import os, pathlib, threading, time, unmix.audio.probe
folder, check = pathlib.Path(os.environ["TMPDIR"]), unmix.audio.probe.Probe.check
def held(*args, **options):
    (folder / f"checking-{threading.get_ident()}").touch()
    while (folder / "hold").exists():
        time.sleep(0.02)
    return check(*args, **options)
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

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        """Connect from an address of this machine."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS, (address, 0))

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

    def kept_bytes(self) -> int:
        """How much of the disk the files take that the process has open in its temporary folder."""
        return sum(self.open_files().values())

    def open_files(self) -> dict[str, int]:
        """The files that the process has open in its temporary folder, without a name too, and their bytes."""
        found = {}
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed a moment ago
                if os.readlink(link).startswith(str(self.temporary)):
                    found[str(link)] = link.stat().st_size
        return found

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
        "POST /apiv1/separate HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Content-Length: {len(before) + length + len(after)}\r\n\r\n"
    ).encode()
    return head + before, after


def health_seconds(rest: RestProcess) -> float:
    began = time.monotonic()
    assert requests.get(f"{rest.url}/healthz", timeout=PATIENCE_SECONDS).status_code == 200
    return time.monotonic() - began


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


def finish(rest: RestProcess, job_id: str, vocals: bytes, format: str = "mp3") -> None:
    """End the job as a worker would, with one stem."""
    ledger = Ledger(rest.store)
    request = ledger.request(job_id)
    assert request is not None
    name = names.attempt_object(job_id, "token", "vocals", format)
    rest.store.put(name, vocals)
    ledger.commit(
        Outcome(
            job_id,
            request.generation,
            JobStatus.DONE,
            utc_now(),
            stems={"vocals": StemFile(name.key, len(vocals), names.hash_song(vocals))},
            format=format,
            ran=Ran("demo", "ab" * 32, "cpu", 44_100, 2.0, 0.5),
        )
    )
