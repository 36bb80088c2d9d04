"""Processes that start before their services, lose them, or are let in by nobody: they wait, or say what is wrong."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, serve_rclone
from support import PATIENCE_SECONDS, RedisServer, eventually, free_port, redis_login
from unmix.runtime.last_words import NEVER

COMMANDS = {
    "rest": ["-m", "unmix_rest"],
    "worker": ["-m", "unmix_worker"],
    "janitor": ["-m", "unmix.cli", "janitor"],
    "logs": ["-m", "unmix.cli", "logs"],
    "buckets": ["-m", "unmix.cli", "buckets"],
}
#: With this before it a process waits two tenths of a second where it would wait two minutes.
HURRY = """
import runpy, sys, unmix.runtime.connect
unmix.runtime.connect.PATIENCE_SECONDS = unmix.runtime.connect.PAUSE_SECONDS = 0.2
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
USERS_OF_REDIS = ("rest", "worker", "janitor", "logs")
USERS_OF_THE_STORE = ("rest", "worker", "janitor", "buckets")


class Part:
    """A process of the service; what it says goes to a file."""

    def __init__(self, name: str, folder: Path, settings: dict[str, str], *, hurry: bool = False) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        environment = {
            **os.environ,
            "UNMIX_MODEL": "demo",
            "UNMIX_BACKEND": "torch",  # nothing to be converted
            "UNMIX_PORT": str(free_port()),
            "UNMIX_SCRATCH_DIR": str(folder / "scratch"),
            **settings,
        }
        command = ["-c", HURRY, *COMMANDS[name][1:]] if hurry else COMMANDS[name]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=log)

    def said(self) -> str:
        return self._log.read_text()

    def wait_until_it_says(self, *words: str) -> None:
        """Return once a line has all of the words."""
        eventually(
            lambda: self._has_said(words) or self.process.poll() is not None,
            f"{self.name} says {words}",
            explain=self.said,
        )
        assert self._has_said(words), f"{self.name} never said {words}:\n{self.said()}"

    def wait_until_it_ends(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def _has_said(self, words: tuple[str, ...]) -> bool:
        return any(all(word in line for word in words) for line in self.said().splitlines())


class Parts:
    """Starts processes, and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Part] = []

    def start(self, names: Iterable[str], settings: dict[str, str], *, hurry: bool = False) -> list[Part]:
        started = [Part(name, self._folder, settings, hurry=hurry) for name in names]
        self._started += started
        return started

    def end(self) -> None:
        for part in self._started:
            part.process.kill()
            part.process.wait()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path)
    yield parts
    parts.end()


@pytest.fixture
def late_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that is yet to be started."""
    folder = tmp_path / "late-redis"
    folder.mkdir()
    server = RedisServer(folder)
    yield server
    server.kill()


def store_settings(url: str) -> dict[str, str]:
    return {"UNMIX_STORE_URL": url, "UNMIX_STORE_ACCESS_KEY": ACCESS_KEY, "UNMIX_STORE_SECRET_KEY": SECRET_KEY}


def test_all_wait_for_redis_and_then_for_the_store_and_say_so(
    parts: Parts, late_redis: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    url = f"s3+http://127.0.0.1:{port}"
    rest, worker, janitor, logs, buckets = parts.start(
        COMMANDS, {"UNMIX_REDIS_URL": late_redis.url, **store_settings(url)}
    )
    for part in (rest, worker, janitor, logs):
        part.wait_until_it_says("waiting", "service='redis'", "refused", "UNMIX_REDIS_URL")
    late_redis.start()
    for part in (rest, worker, janitor, buckets):
        part.wait_until_it_says("waiting", "service='object store'", "refused", "UNMIX_STORE_URL")
    (tmp_path / "s3").mkdir()
    with serve_rclone(tmp_path / "s3", port) as server:
        rest.wait_until_it_says("rest ready")
        worker.wait_until_it_says("model loaded")
        janitor.wait_until_it_says("janitor ready")
        logs.wait_until_it_says(".janitor.info:janitor ready")
        assert buckets.wait_until_it_ends() == 0
        assert "buckets queue and output" in buckets.said()
        assert list(server.store().list("output")) == []


@pytest.mark.slow
def test_names_that_nobody_knows_yet_are_waited_for(parts: Parts) -> None:
    settings = {"UNMIX_REDIS_URL": "redis://redis.invalid:6379/0", "UNMIX_STORE_URL": "s3+http://store.invalid:9000"}
    *users_of_redis, buckets = parts.start(COMMANDS, settings)
    for part in users_of_redis:
        part.wait_until_it_says("waiting", "redis.invalid", "UNMIX_REDIS_URL")
    buckets.wait_until_it_says("waiting", "store.invalid", "UNMIX_STORE_URL")


@pytest.mark.slow
def test_who_has_waited_in_vain_ends_with_the_cause_and_what_to_look_at(parts: Parts, unused_port: int) -> None:
    settings = {
        "UNMIX_REDIS_URL": f"redis://127.0.0.1:{unused_port}/0",
        "UNMIX_STORE_URL": f"s3+http://127.0.0.1:{unused_port}",
    }
    *users_of_redis, buckets = parts.start(COMMANDS, settings, hurry=True)
    for part in users_of_redis:
        assert part.wait_until_it_ends() == 1
        assert "Connection refused" in last_line(part)
        assert "see UNMIX_REDIS_URL" in last_line(part)
    assert buckets.wait_until_it_ends() == 1
    assert "Connection refused" in last_line(buckets)
    assert "see UNMIX_STORE_URL" in last_line(buckets)


def test_a_wrong_password_of_redis_ends_the_process_at_once_and_is_named(
    parts: Parts, redis_url: str, tmp_path: Path
) -> None:
    store = {"UNMIX_STORE_URL": f"file://{tmp_path}/store"}
    started = []
    for name in USERS_OF_REDIS:
        login = {**redis_login(redis_url, name), "UNMIX_REDIS_PASSWORD": "of-last-year"}
        started += parts.start([name], {**store, **login})
    for part in started:
        assert part.wait_until_it_ends() == 1
        assert "refuses the password" in last_line(part)
        assert "UNMIX_REDIS_PASSWORD" in last_line(part)
        assert "of-last-year" not in part.said()


def test_wrong_keys_of_the_store_end_the_process_at_once_and_are_named(
    parts: Parts, redis_url: str, rclone: S3Server
) -> None:
    settings = {**store_settings(rclone.url), "UNMIX_STORE_SECRET_KEY": "of-last-year", "UNMIX_REDIS_URL": redis_url}
    for part in parts.start(USERS_OF_THE_STORE, settings):
        assert part.wait_until_it_ends() in (1, NEVER)  # of the worker: local mode need not start it again
        assert "store_denied" in last_line(part)
        assert "UNMIX_STORE_SECRET_KEY" in last_line(part)
        assert "of-last-year" not in part.said()


def test_logs_waits_while_redis_loads_its_data_and_goes_on_after_a_restart(
    parts: Parts, late_redis: RedisServer
) -> None:
    with closing(socket.create_server(("127.0.0.1", late_redis.port))) as loading:
        answering = threading.Thread(target=answer_as_while_loading, args=(loading,))
        answering.start()
        [logs] = parts.start(["logs"], redis_login(late_redis.url, "logs"))
        logs.wait_until_it_says("waiting", "service='redis'", "loading")
        loading.shutdown(socket.SHUT_RDWR)
        answering.join()
    late_redis.start()
    say(late_redis, "node.rest.info:before")
    logs.wait_until_it_says("node.rest.info:before")
    late_redis.kill()
    logs.wait_until_it_says("waiting", "refused")
    late_redis.start()
    say(late_redis, "node.rest.info:after")
    logs.wait_until_it_says("node.rest.info:after")


def answer_as_while_loading(server: socket.socket) -> None:
    """Answer every command as a server does that reads its data after a start."""
    while True:
        try:
            peer, _ = server.accept()
        except OSError:  # it was shut down
            return
        with peer:
            while peer.recv(4096):
                peer.sendall(b"-LOADING Redis is loading the dataset in memory\r\n" * 9)


def say(server: RedisServer, line: str) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.lpush("logging", line)


def last_line(part: Part) -> str:
    return part.said().splitlines()[-1]
