"""REST as a process: where it does not start, and what it says where it lets everybody in."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import requests

from rest_process import RestProcess
from support import PATIENCE_SECONDS, free_port


def refused(command: list[str], folder: Path, **variables: str) -> str:
    """Run what must not start, and return what it says about it."""
    told = subprocess.run(
        [sys.executable, "-m", *command],
        env={
            **os.environ,
            "UNMIX_STORE_URL": f"file://{folder}/store",
            "UNMIX_REDIS_URL": "redis://127.0.0.1:1/0",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    return told.stderr


def test_it_does_not_start_where_strangers_would_be_served_by_accident(tmp_path: Path) -> None:
    local = ["unmix.cli", "local", "--model", "demo", "--data-dir", f"{tmp_path}/data", "--port", str(free_port())]
    for command in (["unmix_rest"], local):
        said = refused(command, tmp_path, UNMIX_HOST="0.0.0.0")
        (line,) = [line for line in said.splitlines() if line]
        assert "UNMIX_AUTH=keys" in line
        assert "UNMIX_OPEN=yes" in line
    assert not (tmp_path / "data").exists()


def test_it_warns_at_every_start_where_everybody_is_let_in(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_OPEN="yes", UNMIX_HOST="0.0.0.0")
    assert "lets everybody in" in rest.log.read_text()
    assert requests.get(f"{rest.url}/apiv1/queue", timeout=PATIENCE_SECONDS).status_code == 200
    asked = requests.get(f"{rest.url}/apiv1/queue", headers={"Host": "evil.example"}, timeout=PATIENCE_SECONDS)
    assert (asked.status_code, asked.json()["code"]) == (421, "unknown_host")


def test_with_keys_it_listens_anywhere_without_a_warning(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_AUTH="keys", UNMIX_HOST="0.0.0.0")
    assert "lets everybody in" not in rest.log.read_text()
    assert requests.get(f"{rest.url}/apiv1/queue", timeout=PATIENCE_SECONDS).status_code == 401


def test_old_clients_that_say_no_host_are_served(start: Callable[..., RestProcess]) -> None:
    with start().connect() as peer:
        peer.sendall(b"GET /apiv1/queue HTTP/1.0\r\n\r\n")
        assert peer.recv(1000).startswith(b"HTTP/1.0 200 ")
