"""Redis as a deployment starts it, by `redis/start.sh`: users and rights as in local mode, passwords from files."""

import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redis_users import users_of, written_users
from support import eventually, free_port, redis_login, redis_password
from unmix.errors import QueueError
from unmix.local.embedded_redis import USERS_FILE, roles, server_command
from unmix.queue.job_queue import JobQueue

START = Path(__file__).parents[2] / "redis" / "start.sh"


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    """A folder with the password of each role, as a mounted secret is."""
    folder = tmp_path / "passwords"
    folder.mkdir()
    for role in roles():
        (folder / role).write_text(redis_password(role))
    return folder


@pytest.fixture
def start(tmp_path: Path, passwords: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], str]]]:
    """Run start.sh as a deployment does, in the data folder `data`; returns the process and the server's URL."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "bin" / "valkey-server").symlink_to(server_command(0, tmp_path)[0])
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    started: list[subprocess.Popen[str]] = []

    def run() -> tuple[subprocess.Popen[str], str]:
        port = free_port()
        command = ["sh", str(START), str(passwords), "--bind", "127.0.0.1", "--port", str(port)]
        with (tmp_path / "redis.log").open("w") as log:
            started.append(
                subprocess.Popen(
                    command, cwd=tmp_path / "data", env=environment, stdout=log, stderr=subprocess.PIPE, text=True
                )
            )
        return started[-1], f"redis://127.0.0.1:{port}/0"

    yield run
    for process in started:
        with process:
            process.kill()


Start = Callable[[], tuple[subprocess.Popen[str], str]]


def test_a_deployment_lets_in_each_role_with_its_password_and_nobody_else(start: Start) -> None:
    process, url = start()
    with JobQueue(url) as stranger:
        eventually(lambda: _answer(stranger) != "queue_unavailable" or process.poll() is not None, "the server answers")
        assert _answer(stranger) == "queue_denied"
    for role in roles():
        login = redis_login(url, role)
        with JobQueue(login["UNMIX_REDIS_URL"], password=login["UNMIX_REDIS_PASSWORD"]) as queue:
            queue.ping()
    process.terminate()
    assert process.wait() == 0


def _answer(queue: JobQueue) -> str:
    try:
        queue.ping()
    except QueueError as error:
        return error.code
    return "ok"


def test_a_deployment_gives_the_rights_that_local_mode_gives(start: Start, tmp_path: Path) -> None:
    start()
    users = tmp_path / "data" / USERS_FILE
    local = users_of(written_users(tmp_path))
    eventually(lambda: users.exists() and len(users.read_text().split("user ")) > len(local), "all users are written")
    deployed = users_of(users)
    assert deployed.pop("default") == ["off"]
    del local["default"]
    assert deployed == local
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert redis_password("") not in users.read_text()


@pytest.mark.parametrize(
    ("content", "complaint"), [(None, "has no password"), ("", "is empty"), ("secret\n", "has a line break")]
)
def test_a_deployment_does_not_start_without_a_proper_password(
    start: Start, passwords: Path, content: str | None, complaint: str
) -> None:
    (passwords / "janitor").unlink()
    if content is not None:
        (passwords / "janitor").write_text(content)
    process, _ = start()
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith("start.sh: the ")
    assert complaint in errors
    assert str(passwords / "janitor") in errors
