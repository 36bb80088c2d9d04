"""The clients of `k8s/e2e-kind.sh`: they tell when a request was refused or a song was lost."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from manifests.rendering import K8S
from support import eventually


class Rest:
    """A server that answers as REST does, with the statuses that a test gives its jobs."""

    def __init__(self) -> None:
        self.refuses = False
        self.statuses: dict[str, str] = {}
        rest = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if rest.refuses:
                    return self.answer(503, {"detail": "Redis is away", "code": "queue_unavailable"})
                job = f"job-{len(rest.statuses)}"
                rest.statuses[job] = "done"
                return self.answer(202, {"hash": job, "songhash": job, "status": "queued"})

            def do_GET(self) -> None:
                job = self.path.rpartition("/")[2]
                status = rest.statuses.get(job)
                self.answer(200 if status else 404, {"hash": job, "songhash": job, "status": status})

            def answer(self, code: int, fields: dict[str, str | None]) -> None:
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(fields).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def rest() -> Iterator[Rest]:
    rest = Rest()
    threading.Thread(target=rest.server.serve_forever, args=(0.01,), daemon=True).start()
    yield rest
    rest.server.shutdown()
    rest.server.server_close()


def command(client: str, rest: Rest, record: Path, *options: str) -> list[str]:
    return [sys.executable, str(K8S / "e2e" / "load.py"), client, rest.url, str(record), *options]


@pytest.mark.parametrize(
    ("fate", "said"),
    [("done", ""), ("failed", "lost: job-1: failed"), ("queued", "lost: job-1: not over"), ("", "lost")],
)
def test_every_accepted_song_has_to_be_done(rest: Rest, tmp_path: Path, fate: str, said: str) -> None:
    rest.statuses = {"job-0": "done", "job-1": fate}
    record = tmp_path / "record"
    record.write_text("job-0\njob-1\n")
    done = subprocess.run(command("check", rest, record, "--wait-seconds", "0.1"), capture_output=True, text=True)
    assert done.returncode == (0 if fate == "done" else 1)
    assert said in done.stderr


def test_nothing_accepted_proves_nothing(rest: Rest, tmp_path: Path) -> None:
    (tmp_path / "record").touch()
    assert subprocess.run(command("check", rest, tmp_path / "record"), capture_output=True).returncode == 1


@pytest.mark.parametrize("refuses", [False, True])
def test_one_refused_request_is_remembered(rest: Rest, tmp_path: Path, refuses: bool) -> None:
    record = tmp_path / "record"
    with subprocess.Popen(command("submit", rest, record), stderr=subprocess.PIPE, text=True) as process:
        rest.refuses = refuses
        assert process.stderr is not None
        if refuses:
            assert "Redis is away (queue_unavailable)" in process.stderr.readline()
        else:
            eventually(record.exists, "the record is there")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == (1 if refuses else 0)
    assert record.exists() == (not refuses)


def test_songs_are_waited_for_until_they_run(rest: Rest, tmp_path: Path) -> None:
    options = ("--songs", "2", "--running", "1")
    with subprocess.Popen(command("busy", rest, tmp_path / "record", *options)) as process:
        eventually(lambda: len(rest.statuses) >= 2, "both songs are posted")
        rest.statuses["job-1"] = "running"
        assert process.wait() == 0
    assert (tmp_path / "record").read_text() == "job-0\njob-1\n"
