"""What the pages of the queue and of the object store tell to type, typed; ports and folders are those of the test."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from support import eventually, free_port
from unmix.local.embedded_redis import server_command
from unmix.names import hash_song

ROOT: Final = Path(__file__).parents[2]
#: `redis-cli` for machines that have none.
REDIS_CLI: Final = """
import redis, sys
_, _, port, *command = sys.argv
with redis.Redis(port=int(port), decode_responses=True) as client:
    print(client.execute_command(*command))
"""


class Terminal:
    """A shell in the folder of Track-Unmix, at home elsewhere; what it leaves in the background ends with the test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        programs = home / "bin"
        programs.mkdir()
        (programs / "valkey-server").symlink_to(server_command(0, home)[0])
        self._environment = {**os.environ, "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}"}
        self._sessions: list[subprocess.Popen[str]] = []

    def types(self, script: str, **variables: str) -> subprocess.Popen[str]:
        """Begin with a script of a page."""
        python = shlex.quote(sys.executable)
        functions = f'redis-cli() {{ {python} -c {shlex.quote(REDIS_CLI)} "$@"; }}'
        ours = {"unmix": f"exec {python} -m unmix.cli", "python": python}
        ours |= {"rclone": shlex.quote(str(Path(sysconfig.get_path("scripts")) / "rclone"))}
        script = re.sub(r"\.venv/bin/(\w+)", lambda found: ours[found[1]], script).replace(" .unmix/", " ~/.unmix/")
        session = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", f"{functions}\n{script}"],
            cwd=ROOT,
            env={**self._environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._sessions.append(session)
        return session

    def end(self) -> None:
        for session in self._sessions:
            with suppress(ProcessLookupError):
                os.killpg(session.pid, signal.SIGKILL)
            session.wait()
            if session.stdout:
                session.stdout.close()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.end()


def blocks(page: str) -> list[str]:
    """Return the indented blocks of a page."""
    return [*map(textwrap.dedent, re.findall(r"(?:^(?:    .*)\n)+", (ROOT / page).read_text(), re.MULTILINE))]


def block_with(words: str, page: str) -> str:
    (found,) = (block for block in blocks(page) if words in block)
    return found


def listens(port: int) -> Callable[[], bool]:
    def is_there() -> bool:
        with socket.socket() as peer:
            return peer.connect_ex(("127.0.0.1", port)) == 0

    return is_there


def test_a_redis_server_with_users_serves_the_janitor(terminal: Terminal) -> None:
    port = free_port()
    server = block_with("start.sh", "redis/README.md").replace("--bind", f"--port {port} --bind")
    terminal.types(f"{server}wait")
    eventually(listens(port), "the server listens")
    alive = terminal.home / "alive"
    janitor = block_with("unmix janitor", "redis/README.md").replace(":6379", f":{port}")
    settings = {"UNMIX_STORE_URL": f"file://{terminal.home}/store", "UNMIX_JANITOR_HEARTBEAT": str(alive)}
    running = terminal.types(janitor, **settings)
    eventually(lambda: alive.exists() or running.poll() is not None, "the janitor works")
    assert running.poll() is None


def test_a_foreign_producer_pushes_and_looks(terminal: Terminal, redis_url: str) -> None:
    song = hash_song(b"a song")
    script = block_with("redis-cli", "redis/README.md").replace("<songhash>", song)
    producer = terminal.types(script.replace("PORT", redis_url.rpartition(":")[2].partition("/")[0]))
    told, _ = producer.communicate()
    assert producer.returncode == 0
    assert told.splitlines() == ["1", f"['{song}']", "0"]


def test_a_folder_is_served_as_an_s3_server_and_tells_what_it_can_do(terminal: Terminal) -> None:
    port = free_port()
    server, ask = (
        each.replace(":9000", f":{port}")
        for each in (block_with("rclone serve", "minio/README.md"), block_with("conditional_puts)", "minio/README.md"))
    )
    terminal.types(f"{server}wait")
    eventually(listens(port), "the server listens")
    told, _ = terminal.types(ask).communicate()
    warning, answer = told.splitlines()
    assert ("warning" in warning, answer) == (True, "conditional puts: False")
    assert (terminal.home / ".unmix" / "s3").is_dir()
