"""Real S3 servers for tests, from wheels.

moto honours conditional puts and believes any key; `rclone serve s3` checks signatures and ignores conditions.
"""

import socket
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import eventually, free_port
from unmix.names import OUTPUT_BUCKET, QUEUE_BUCKET
from unmix.store.opening import open_store
from unmix.store.protocol import ObjectStore
from unmix.store.s3 import MinioStore

ACCESS_KEY = "unmix-tests"
SECRET_KEY = "not-a-secret-of-anyone"

# moto looks at the condition and puts in two steps, and its threads could change places between them. With so long a
# switch interval they only do so where one waits for its socket, which makes the two steps one, as on a real server.
_MOTO = "import sys; sys.setswitchinterval(60); from moto.server import main; main(sys.argv[1:])"


@dataclass(frozen=True)
class S3Server:
    """A running server on 127.0.0.1 that knows `ACCESS_KEY`."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"s3+http://{self.endpoint}"

    def store(self, *, secret_key: str = SECRET_KEY) -> MinioStore:
        """Return a store on this server, not yet prepared."""
        return MinioStore(self.endpoint, access_key=ACCESS_KEY, secret_key=secret_key, secure=False)


@pytest.fixture(scope="session")
def shared_moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve_rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@contextmanager
def serve_moto(folder: Path) -> Iterator[S3Server]:
    """Run a server that honours conditional puts; `folder` is for its log."""
    port = free_port()
    command = [sys.executable, "-c", _MOTO, "-H", "127.0.0.1", "-p", str(port)]
    yield from _serve(command, port, folder)


@contextmanager
def serve_rclone(folder: Path, port: int | None = None) -> Iterator[S3Server]:
    """Run a server that checks signatures, ignores conditions, and keeps its data in `folder`."""
    port = port or free_port()
    (folder / "data").mkdir()
    command = [
        str(Path(sysconfig.get_path("scripts")) / "rclone"),
        *("serve", "s3", str(folder / "data"), "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", "", "--cache-dir", str(folder / "cache")),
    ]
    yield from _serve(command, port, folder)


@pytest.fixture
def moto(shared_moto: S3Server) -> S3Server:
    """An S3 server without any bucket that honours conditional puts."""
    reset = urllib.request.Request(f"http://{shared_moto.endpoint}/moto-api/reset", method="POST")
    with urllib.request.urlopen(reset):
        return shared_moto


@pytest.fixture
def rclone(shared_rclone: S3Server) -> S3Server:
    """An S3 server with empty buckets that checks signatures and ignores conditions."""
    store = shared_rclone.store()
    store.prepare()
    for bucket in (QUEUE_BUCKET, OUTPUT_BUCKET):
        for info in list(store.list(bucket)):
            store.remove(info.name)
    return shared_rclone


def _serve(command: list[str], port: int, folder: Path) -> Iterator[S3Server]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: process.poll() is not None or _listens(port), f"{command[0]} listens")
        assert process.poll() is None, f"{command[0]} ended: {(folder / 'log').read_text()}"
        yield S3Server(port)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def opened_store(kind: str, request: pytest.FixtureRequest, folder: Path) -> ObjectStore:
    """A store with its buckets: in a folder (`file`), or on the server of the fixture that `kind` names."""
    url = f"file://{folder}/store" if kind == "file" else request.getfixturevalue(kind).url
    store = open_store(url, access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    store.prepare()
    return store
