"""What tests of all folders share: real servers on free loopback ports, ended by pid, and names for songs."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import psutil
import redis

from unmix.local.embedded_redis import USERS_FILE, roles, server_command, write_users

#: Every wait of a test ends after this many seconds, on however busy a machine; pytest's own time limit is 120.
PATIENCE_SECONDS = 90.0

Result = TypeVar("Result")


def eventually(
    condition: Callable[[], Result],
    what: str,
    *,
    meanwhile: Callable[[], object] = bool,
    patience_seconds: float = PATIENCE_SECONDS,
    explain: Callable[[], str] = str,
) -> Result:
    """Wait until `condition` holds, calling `meanwhile` between two looks, and return what it gave.

    Raises:
        AssertionError: it did not hold in time; the message says `what` was waited for, and what `explain` gives.
    """
    deadline, pause_seconds = time.monotonic() + patience_seconds, 0.01
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited in vain until {what}\n{explain()}"
        meanwhile()
        time.sleep(pause_seconds)
        pause_seconds = min(1.2 * pause_seconds, 0.05)  # to look takes from what is waited for
    return result


def song_hash_number(number: int) -> str:
    """Return a song hash that looks like any other, the same one for the same number."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_line(process: psutil.Process) -> list[str]:
    """Return what a process was started with, nothing if it is over, also if nobody has asked yet how it ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def folder_in_memory() -> Path | None:
    """Where files need no disk, so that its fsync does not decide how long a run takes; None if there is no room.

    A container has 64 MB there unless told otherwise, which is soon full.
    """
    folder = Path("/dev/shm")
    has_room = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= 1 << 30
    return folder if has_room else None


class RedisServer:
    """A real Redis-protocol server that a test may stop and start again on the same data.

    It has the settings and the users of a deployment, and `admin`, who may do anything and as whom `url` logs in.
    """

    def __init__(self, data_dir: Path) -> None:
        self.port = free_port()
        self.url = f"redis://admin:{redis_password('admin')}@127.0.0.1:{self.port}/0"
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None
        write_users(data_dir, {role: redis_password(role) for role in roles()})
        with (data_dir / USERS_FILE).open("a") as users:
            users.write(f"user admin on >{redis_password('admin')} ~* &* +@all\n")

    def start(self) -> None:
        log = (self._data_dir / "redis.log").open("ab")
        self._process = subprocess.Popen(server_command(self.port, self._data_dir), stdout=log, stderr=log)
        log.close()
        with redis.Redis.from_url(self.url) as client:
            process, log_path = self._process, self._data_dir / "redis.log"
            eventually(
                lambda: process.poll() is not None or _answers(client), "Redis answers", explain=log_path.read_text
            )
            assert process.poll() is None, f"the Redis server ended: {log_path.read_text()}"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _answers(client: "redis.Redis") -> bool:
    try:
        client.ping()
    except redis.ConnectionError:
        return False
    return True


def redis_password(role: str) -> str:
    """The password of a user on every `RedisServer`."""
    return f"password-of-{role}"


def redis_login(redis_url: str, role: str) -> dict[str, str]:
    """The variables with which a process logs in to a `RedisServer` as a role, wherever `redis_url` logs in."""
    address = redis_url.partition("//")[2].rpartition("@")[2]
    return {"UNMIX_REDIS_URL": f"redis://{role}@{address}", "UNMIX_REDIS_PASSWORD": redis_password(role)}


def make_song(seconds: float, seed: int) -> bytes:
    """Return a stereo WAV of decaying notes over a beat, another one for each seed."""
    rng = np.random.default_rng(seed)
    song = np.zeros((round(seconds * 44100), 2))
    since = np.arange(44100) / 44100  # s after the beginning of a note
    notes = {pitch: 0.2 * np.exp(-6 * since) * np.sin(2 * np.pi * pitch * since) for pitch in (110, 220, 330, 440)}
    for begin in range(0, len(song), 22050):
        note = notes[int(rng.choice([*notes]))]
        song[begin : begin + 44100] += (note[:, None] * rng.uniform(0.5, 1, 2))[: len(song) - begin]
    samples = (np.clip(song, -1, 1) * 32767).astype("<i2")
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


class SongServer:
    """A server on 127.0.0.1 that has songs; `answers` are what it says of each path: the bytes, or a status."""

    def __init__(self, answers: Mapping[str, bytes | int]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                answer = server.answers.get(self.path, 404)
                self.send_response(answer if isinstance(answer, int) else 200)
                body = b"" if isinstance(answer, int) else answer
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()  # ends at once
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def raw_server(answer: Callable[[socket.socket, bytes], object]) -> Iterator[tuple[int, list[bytes]]]:
    """Serve each connection on a free port of 127.0.0.1 by `answer`, which gets the socket and the request.

    Yields the port and the requests that came.
    """
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                received.append(_read_request(peer))
                with suppress(OSError):  # whoever asked has heard enough
                    answer(peer, received[-1])

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], received
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=30)


def _read_request(peer: socket.socket) -> bytes:
    """Return a request, with as long a body as it says it has; less if it breaks off."""
    request = b""
    while True:
        head, end, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            return request
        if not (more := peer.recv(65536)):
            return request
        request += more


class CallbackServer:
    """A receiver of callbacks on 127.0.0.1 that keeps what was sent to it, and answers with `status`."""

    def __init__(self, status: int = 204, **answer_headers: str) -> None:
        """Each `_` in the name of a header stands for a hyphen."""
        self.status = status
        self.answer_headers = {name.replace("_", "-"): value for name, value in answer_headers.items()}
        self.heads: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.delivery_ids: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # its sender was killed
                receiver.delivery_ids.append(self.headers["Webhook-Id"])
                receiver.heads.append(dict(self.headers))
                receiver.bodies.append(json.loads(body))
                self.send_response(receiver.judge(dict(self.headers), body))
                for name, value in receiver.answer_headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/done"

    def judge(self, headers: dict[str, str], body: bytes) -> int:
        """Return the status to answer with."""
        return self.status

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()  # ends at once
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
