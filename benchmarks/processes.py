"""The processes of one service, started one by one: a Redis of its own, REST, a janitor, each with chosen settings.

`unmix.local` runs them all on one folder of files; a benchmark wants each alone, on either kind of store.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

import redis
import requests

from unmix.local.embedded_redis import USERS_FILE, roles, server_command, write_users
from unmix.local.local import free_port
from unmix.queue.job_queue import JobQueue, QueuePolicy

#: Whoever may do everything, for the benchmark itself.
_ADMIN: Final = "user benchmark on nopass ~* &* +@all\n"
#: What settings of the caller begin with, which are not for us.
_SETTINGS: Final = ("UNMIX_", "REDIS_", "MINIO_")
_END_SECONDS: Final = 30
_LOAD_SECONDS: Final = 300
_LEASE_SECONDS: Final = 24 * 3600


class Service:
    """A Redis while it is entered, and what is started on it.

    `store` are the variables that name the object store, and whatever else all processes are told.
    """

    def __init__(self, folder: Path, store: Mapping[str, str]) -> None:
        self._folder = folder
        self._store = store
        self._port = free_port()
        self._passwords = {role: secrets.token_hex(16) for role in roles()}
        self._running = ExitStack()
        self.redis = redis.Redis.from_url(self._redis_url("benchmark"), decode_responses=True)

    def __enter__(self) -> Self:
        data = self._folder / "redis"
        data.mkdir(parents=True)
        write_users(data, self._passwords)
        with (data / USERS_FILE).open("a") as users:
            users.write(_ADMIN)
        self._running.enter_context(started(server_command(self._port, data), self._folder / "redis.log"))
        wait_until(self._redis_answers, "Redis answers")
        return self

    def __exit__(self, *_: object) -> None:
        self.redis.close()
        self._running.close()

    def queue(self) -> JobQueue:
        """Open the queue as somebody who may do everything; leases do not lapse while anything is measured."""
        return JobQueue(self._redis_url("benchmark"), policy=QueuePolicy(lease_seconds=_LEASE_SECONDS))

    @contextmanager
    def rest(self) -> Iterator[str]:
        """Run REST, and yield its URL."""
        with self.rest_process() as (port, _):
            yield f"http://127.0.0.1:{port}"

    @contextmanager
    def rest_process(self) -> Iterator[tuple[int, int]]:
        """Run REST, and yield its port and its process id."""
        with self._ours("rest", "unmix_rest", UNMIX_PORT=str(port := free_port())) as pid:
            wait_until(lambda: _is_ready(f"http://127.0.0.1:{port}"), "REST is ready")
            yield port, pid

    @contextmanager
    def janitor(self, **settings: str) -> Iterator[int]:
        """Run a janitor, and yield its process id."""
        with self._ours("janitor", "unmix.cli", "janitor", **settings) as pid:
            yield pid

    @contextmanager
    def worker(self, number: int, module: str = "unmix_worker", *arguments: str, **settings: str) -> Iterator[int]:
        """Run a worker, and yield its process id once its model is loaded."""
        heartbeat = self._folder / f"worker-{number}.alive"
        with self._ours("worker", module, *arguments, UNMIX_WORKER_HEARTBEAT=str(heartbeat), **settings) as pid:
            wait_until(heartbeat.exists, "a worker is ready", limit_seconds=_LOAD_SECONDS)
            yield pid

    @contextmanager
    def _ours(self, role: str, *arguments: str, **settings: str) -> Iterator[int]:
        environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("UNMIX_", "REDIS_", "MINIO_"))
            },
            "UNMIX_MODEL": "demo",
            "UNMIX_REDIS_URL": self._redis_url(role),
            "UNMIX_REDIS_PASSWORD": self._passwords[role],
            **self._store,
            **settings,
        }
        with started([sys.executable, "-m", *arguments], self._folder / f"{role}.log", environment) as pid:
            yield pid

    def _redis_url(self, user: str) -> str:
        return f"redis://{user}@127.0.0.1:{self._port}/0"

    def _redis_answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def started(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a process while the block runs, what it prints into `log`, and yield its id."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(
    condition: Callable[[], bool], what: str, *, limit_seconds: float = 60, pause_seconds: float = 0.1
) -> None:
    """Return once `condition` holds.

    Raises:
        TimeoutError: that took longer than `limit_seconds`.
    """
    deadline = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {limit_seconds:g} s in vain until {what}")
        time.sleep(pause_seconds)


def _is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False
