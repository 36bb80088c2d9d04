"""The whole service as processes: Redis, REST, janitor and as many workers as a test wants, with scaled intervals.

Each process logs in to Redis as its role, so that a right that it lacks is found here.
"""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from support import PATIENCE_SECONDS, RedisServer, eventually, free_port, redis_login
from unmix import names
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore

#: Intervals scaled down, so that what takes a minute in production takes seconds here.
FAST = {
    "UNMIX_LEASE_SECONDS": "2",
    "UNMIX_RENEW_SECONDS": "0.4",
    "UNMIX_SWEEP_SECONDS": "0.2",
    "UNMIX_GRACE_SECONDS": "1",
    "UNMIX_TAKE_SECONDS": "0.5",
    "UNMIX_RETRY_SECONDS": "0.2",
    "UNMIX_CALLBACK_RETRY_SECONDS": "0.2",
}


class Stack:
    """A running service; everything it started ends with it."""

    def __init__(self, folder: Path, redis_url: str, **settings: str) -> None:
        self._folder = folder
        self.store = folder / "store"
        self.objects = FileStore(self.store)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._workers: list[subprocess.Popen[bytes]] = []
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.settings = {
            **FAST,
            "UNMIX_REDIS_URL": redis_url,
            "UNMIX_STORE_URL": f"file://{self.store}",
            "UNMIX_MODEL": "demo",
            "UNMIX_THREADS": "1",
            "UNMIX_PORT": str(port),
            **settings,
        }
        self.queue = JobQueue(self.settings["UNMIX_REDIS_URL"])

    def start(self, *, workers: int = 1) -> "Stack":
        self._spawn("rest", "unmix_rest")
        self._spawn("janitor", "unmix.cli", "janitor")
        for _ in range(workers):
            self.start_worker()
        self.wait_for(self._rest_answers, "REST is ready")
        return self

    def start_half_way(self, song: bytes) -> tuple[subprocess.Popen[bytes], int, str]:
        """Start with one worker and send a song to it; see `half_way`."""
        self.start(workers=0)
        return self.half_way(song)

    def half_way(self, song: bytes) -> tuple[subprocess.Popen[bytes], int, str]:
        """Return the worker, started if none lives, the pid of its child, and the job that both are in the middle of.

        The stems are asked for as flac: mp3 would take as long to encode as the song to separate.
        """
        (worker,) = self.living_workers() or [self.start_worker()]
        job_id = self.post(song, format="flac")
        self.wait_until_half_way(job_id)
        child = self.child_of(worker)
        assert child is not None
        return worker, child, job_id

    def start_worker(self) -> subprocess.Popen[bytes]:
        name = f"worker-{len(self._workers) + 1}"
        self._workers.append(self._spawn(name, "unmix_worker"))
        return self._workers[-1]

    def living_workers(self) -> list[subprocess.Popen[bytes]]:
        return [worker for worker in self._workers if worker.poll() is None]

    def helping_workers(self) -> list[subprocess.Popen[bytes]]:
        """Workers that have made parts of somebody else's song."""
        logs = [self._folder / f"worker-{number}.log" for number in range(1, len(self._workers) + 1)]
        each = zip(self._workers, logs, strict=True)
        return [worker for worker, log in each if "event='helping'" in log.read_text()]

    def child_of(self, worker: subprocess.Popen[bytes]) -> int | None:
        """The pid of the process that separates."""
        children = psutil.Process(worker.pid).children()
        return children[0].pid if children else None

    def post(self, song: bytes, **fields: Any) -> str:
        """Send a song in the way of the old clients, and return its job id."""
        body = {"mp3": base64.b64encode(song).decode(), **fields}
        answer = requests.post(f"{self.url}/apiv1/separate", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["hash"])

    def job(self, job_id: str, *, wait_seconds: int = 0) -> dict[str, Any]:
        """Return the view of a job, at once or when it is over, but after so many seconds at the latest."""
        waiting = f"?wait={wait_seconds}" if wait_seconds else ""
        answer = requests.get(f"{self.url}/apiv1/jobs/{job_id}{waiting}", timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def stem(self, job_id: str, stem: str) -> bytes:
        answer = requests.get(f"{self.url}/apiv1/track/{job_id}/{stem}", timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.content

    def remove(self, job_id: str) -> None:
        answer = requests.delete(f"{self.url}/apiv1/remove/{job_id}", timeout=30)
        assert answer.status_code == 200, answer.text

    def wait_until_over(self, job_id: str, *, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        self.wait_for(
            lambda: self.job(job_id, wait_seconds=5)["status"] in ("done", "failed", "cancelled"),
            f"{job_id} is over",
            patience_seconds=patience_seconds,
        )
        return self.job(job_id)

    def wait_until_half_way(self, job_id: str) -> None:
        """Return in the middle of the separation."""

        def running() -> bool:
            job = self.job(job_id)
            assert job["status"] in ("queued", "running"), f"over too soon to be disturbed\n{job}\n{self.logs()}"
            return bool(job["status"] == "running" and job["progress"] > 0)

        self.wait_for(running, f"{job_id} makes progress")

    def wait_for(self, condition: Callable[[], Any], what: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        eventually(condition, what, patience_seconds=patience_seconds, explain=self.logs)

    def outcome(self, job_id: str) -> dict[str, Any]:
        """The outcome document as it lies in the file store."""
        return dict(json.loads(self.objects.get(names.outcome_object(job_id))[0]))

    def started_jobs(self) -> list[str]:
        """Job ids in the order in which workers started them, by the time stamps of their own logs."""
        lines = [line for log in self._folder.glob("worker-*.log") for line in log.read_text().splitlines()]
        started = sorted(line for line in lines if "event='job started'" in line)  # a line begins with its time
        return [line.partition("job_id='")[2].partition("'")[0] for line in started]

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self._folder.glob("*.log")))

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.queue.close()

    def _spawn(self, name: str, module: str, *args: str) -> subprocess.Popen[bytes]:
        role = name.partition("-")[0]  # worker-2 is a worker
        environment = {**os.environ, **self.settings, **redis_login(self.settings["UNMIX_REDIS_URL"], role)}
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", module, *args], env=environment, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def _rest_answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Stack]:
    """Run a service with one worker, for all tests of a file, on a Redis server of its own."""
    server = RedisServer(folder)
    server.start()
    stack = Stack(folder, server.url, **settings)
    try:
        yield stack.start()
    finally:
        stack.stop()
        server.kill()
