"""A service that wants keys, as its operator and clients meet it: the commands of its page, old clients and ours."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from rest_process import SONG, RestProcess
from support import PATIENCE_SECONDS
from unmix.access.keyring import Keyring
from unmix.access.keys import USUAL
from unmix.client import Client
from unmix.errors import UnmixError
from unmix.names import hash_song

ROOT = Path(__file__).parents[2]


@pytest.fixture
def guarded(start: Callable[..., RestProcess]) -> RestProcess:
    return start(UNMIX_AUTH="keys")


@pytest.fixture
def key(guarded: RestProcess) -> str:
    return Keyring(guarded.store).create("anna", scopes=USUAL, tenant="main")[1]


def run(*command: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run([*map(str, command)], env=environment, cwd=folder, capture_output=True, text=True, timeout=60)


def test_the_commands_of_the_page_do_what_it_says(guarded: RestProcess, tmp_path: Path) -> None:
    section = (ROOT / "rest" / "README.md").read_text().partition("\n## Keys\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^    unmix (.+)$", section, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        told = run(
            *(sys.executable, "-m", "unmix.cli", *shlex.split(command)),
            folder=tmp_path,
            UNMIX_STORE_URL=f"file://{guarded.store.root}",
        )
        assert told.returncode == 0, told.stderr
        if " create anna" in f" {command}":
            headers = {"Authorization": f"Bearer {told.stdout.strip()}"}
            assert requests.get(f"{guarded.url}/apiv1/queue", headers=headers, timeout=PATIENCE_SECONDS).ok


def test_an_old_client_is_served_with_a_key_before_its_servers_name(guarded: RestProcess, key: str) -> None:
    rest = f"{key}:@{guarded.url.removeprefix('http://')}"
    queue = requests.get(f"http://{rest}/apiv1/queue", data="null", timeout=PATIENCE_SECONDS)
    assert (queue.status_code, queue.json()["queue"]) == (200, [])
    password = requests.get(f"http://:{rest.replace(':@', '@')}/apiv1/queue", timeout=PATIENCE_SECONDS)
    assert password.status_code == 200


def test_the_sample_client_passes_with_a_key_and_says_why_it_does_not_without(
    guarded: RestProcess, key: str, tmp_path: Path
) -> None:
    (tmp_path / "song.wav").write_bytes(SONG)
    sample, host = ROOT / "sample-requests.py", guarded.url.removeprefix("http://")
    for variables in ({"REST": f"{key}@{host}"}, {"REST": f":{key}@{host}"}, {"REST": host, "UNMIX_KEY": key}):
        told = run(sys.executable, sample, "song.wav", folder=tmp_path, **variables)
        assert (told.returncode, hash_song(SONG) in told.stdout) == (0, True), told.stderr
        assert key not in told.stdout + told.stderr
    told = run(sys.executable, sample, "song.wav", folder=tmp_path, REST=host)
    assert told.returncode == 1
    assert "wants a key" in told.stderr


def test_the_command_line_and_the_client_pass_a_key(guarded: RestProcess, key: str, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(SONG)
    submit = (sys.executable, "-m", "unmix.cli", "submit", "song.wav", "--url")
    assert run(*submit, guarded.url, folder=tmp_path, UNMIX_KEY=key).returncode == 0
    with_key = guarded.url.replace("http://", f"http://{key}@")
    assert run(*submit, with_key, folder=tmp_path).returncode == 0
    refused = run(*submit, guarded.url, folder=tmp_path)
    assert (refused.returncode, "(key_required)" in refused.stderr) == (1, True)
    for client in (Client(with_key), Client(guarded.url, key=key)):
        with client:
            assert client.job(hash_song(SONG)).status == "queued"
    with (
        Client(guarded.url.replace("http://", "http://wrong@"), key=key) as client,
        pytest.raises(UnmixError) as caught,
    ):
        client.job(hash_song(SONG))
    assert caught.value.code == "bad_key"
    assert "wrong" not in caught.value.message


def test_a_netrc_of_the_machine_does_not_take_the_place_of_a_key(
    guarded: RestProcess, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Client(guarded.url, key=key) as client:
        assert list(client.failures()) == []


def test_a_key_is_in_no_log(guarded: RestProcess, key: str) -> None:
    for said in (key, f"{key}x"):
        requests.get(
            f"{guarded.url}/apiv1/queue", headers={"Authorization": f"Bearer {said}"}, timeout=PATIENCE_SECONDS
        )
        requests.post(f"{guarded.url}/apiv1/session", json={"key": said}, timeout=PATIENCE_SECONDS)
    assert key not in guarded.log.read_text()
    assert not any(key in line for line in guarded.queue.log_list.peek())
