"""What the pages for those who begin tell them to type: each command is run, or named here with the reason why not.

The commands of `rest/README.md` are for test_rest_page.py, test_rest_keys.py and test_gate.py, those of `redis/`
and `minio/` for test_readmes.py.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import requests

from command_line import unmix
from local_mode import LocalMode
from stack import FAST
from support import eventually, free_port, make_song
from unmix.access.exposure import check_exposure
from unmix.job import JobRequest, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.local import auto_model, local
from unmix.local.local import LocalPlan
from unmix.names import hash_song, song_object
from unmix.settings import Settings
from unmix.store.file import FileStore

ROOT = Path(__file__).parents[2]
PAGES: Final = ("README.md", "docs/at-home.md", "docs/command-line.md", "worker/README.md")
#: What commands begin with, behind the settings that they are given.
PROGRAMS: Final = (
    *("make", "unmix", ".venv/bin/unmix", ".venv/bin/python", "curl", "cp", "mv", "rm", "tar"),
    *("git", "docker", "podman", "podman-compose", "systemctl", "journalctl", "loginctl", "sudo"),
)
#: Commands, or programs, that no test runs.
NOT_RUN: Final = {
    "make demo": "it has its tests, and .ci/run runs it",
    "make demo SONG=song.mp3": "as `make demo`",
    "make test": "this is it",
    "make clean": "it removes what runs here",
    **dict.fromkeys(("git", "sudo"), "it changes the checkout, or the machine"),
    **dict.fromkeys(("docker", "podman", "podman-compose"), "images take minutes and the network: k8s/try-images.sh"),
    **dict.fromkeys(("systemctl", "journalctl", "loginctl"), "a container of tests has no systemd"),
}
#: Variables of make, and what `unmix local` makes of each.
VARIABLES: Final = {"MODEL": "model", "WORKERS": "workers", "PORT": "port", "DATA": "data_dir"}
SONG = make_song(3, seed=71)


def commands(page: str) -> list[str]:
    """Return the commands in the indented blocks of a page, without the comments behind them."""
    text = re.sub(r"\\\n +", "", (ROOT / page).read_text())
    found = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [re.sub(r"\s+# .*", "", line) for line in found if program_of(line) in PROGRAMS]


def program_of(command: str) -> str:
    words = (word for word in command.split() if not re.match(r"[A-Z_]+=", word))
    return next(words, "")


def serves(command: str) -> bool:
    return bool(re.search(r"\bmake run\b|\bunmix local$", command))


def is_run(command: str) -> bool:
    """Tell whether a command is to be run here, other than those that start the service."""
    return not serves(command) and command not in NOT_RUN and program_of(command) not in NOT_RUN


class Shell:
    """A terminal in a folder, with a service where the pages have it."""

    def __init__(self, folder: Path, url: str = "http://localhost:1") -> None:
        self.folder = folder
        self._url = url
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "REST": url,
            "HASH": hash_song(SONG),
            "UNMIX_MODEL": "demo",
            "UNMIX_CACHE_DIR": str(Path.home() / ".cache" / "track-unmix"),
        }

    def types(self, command: str) -> str:
        """Run a command as it stands, but for addresses and where our programs lie, and return what it prints."""
        here = {
            "localhost:5000": self._url.removeprefix("http://"),
            ".venv/bin/python sample-requests.py": f"python {shlex.quote(str(ROOT / 'sample-requests.py'))}",
            ".venv/bin/": "",
            "unmix submit ": f"unmix submit --url {self._url} ",
            " /backup/": f" {self.folder}/backup/",
            "file:///srv/": f"file://{self.folder}/srv/",
        }
        for words, instead in here.items():
            command = command.replace(words, instead)
        python = shlex.quote(sys.executable)
        functions = f'python() {{ {python} "$@"; }}; unmix() {{ python -m unmix.cli "$@"; }}'
        functions += '; curl() { command curl --silent --show-error --fail-with-body "$@"; }'
        done = subprocess.run(
            ["bash", "-c", f"{functions}\n{command}"],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMode]:
    service = LocalMode(tmp_path_factory.mktemp("pages"))
    service.start()
    yield service
    service.stop()


def test_every_command_is_run_or_there_is_a_reason() -> None:
    all_of_them = [command for page in PAGES for command in commands(page)]
    known = {*NOT_RUN, "make", "unmix", ".venv/bin/unmix", ".venv/bin/python", "curl", "cp", "rm"}
    assert {program_of(command) for command in all_of_them} <= known
    left = [each for each in all_of_them if program_of(each) == "make" and each not in NOT_RUN and not serves(each)]
    assert left == []


@pytest.mark.parametrize("command", sorted({each for page in PAGES for each in commands(page) if serves(each)}))
def test_what_starts_the_service_starts_it_as_the_page_says(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[tuple[Settings, LocalPlan]] = []

    def serve(settings: Settings, plan: LocalPlan, **_: object) -> None:
        check_exposure(settings.host, behind_proxy=False, needs_key=settings.auth == "keys", is_open=settings.open)
        started.append((settings, plan))

    monkeypatch.setattr(local, "serve", serve)
    monkeypatch.setattr(auto_model, "resolve_model", lambda name: (name, None))
    monkeypatch.chdir(tmp_path)
    given = dict(word.split("=", 1) for word in shlex.split(command) if "=" in word)
    for name in [each for each in given if each.startswith("UNMIX_")]:
        monkeypatch.setenv(name, given.pop(name))
    made = subprocess.run(
        ["make", "--dry-run", "run", *(f"{name}={value}" for name, value in given.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    arguments = shlex.split(made.stdout.replace("\\\n", " ").partition("/unmix ")[2])
    assert unmix(*arguments) == 0
    ((settings, plan),) = started
    told = {"HOST": settings.host, "THREADS": settings.threads}
    told |= {name: getattr(plan, field) for name, field in VARIABLES.items()}
    assert {name: str(told[name]) for name in given} == given


def test_the_front_page_and_that_of_the_command_line_do_what_they_say(service: LocalMode, tmp_path: Path) -> None:
    shell = Shell(tmp_path, service.url)
    (tmp_path / "song.mp3").write_bytes(SONG)
    (tmp_path / "Music" / "Album").mkdir(parents=True)
    (tmp_path / "Music" / "Album" / "other.wav").write_bytes(make_song(2, seed=72))
    (tmp_path / "scene.wav").write_bytes(make_song(2, seed=73))
    said = {each: shell.types(each) for each in commands("README.md") if is_run(each)}
    assert len([each for each in said if each.startswith("curl")]) == 9
    for folder, extension in (("song", "mp3"), ("Album/other", "mp3")):
        assert len([*(tmp_path / "stems" / folder).glob(f"*.{extension}")]) == 4
    assert len([*tmp_path.glob("*vocals.mp3")]) == 1, "curl -OJ has saved it"
    job = f"{service.url}/apiv1/jobs/{hash_song(SONG)}"
    assert requests.get(job, timeout=30).status_code == 404, "the last command has removed it"
    for command in filter(is_run, commands("docs/command-line.md")):
        shell.types(command)
    assert sorted(file.name for file in (tmp_path / "stems" / "song").glob("*.flac")) == [
        *("instrumental.flac", "vocals.flac")
    ]
    assert len([*(tmp_path / "stems" / "Unknown artist" / "other").iterdir()]) == 4
    assert len([*(tmp_path / "stems" / "scene").glob("*.wav")]) == 4


def test_the_page_for_home_does_what_it_says(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    kept, asked = (
        FileStore(tmp_path / ".unmix" / "store"),
        JobRequest(hash_song(SONG), SeparationOptions("demo"), utc_now()),
    )
    kept.prepare()
    kept.put(song_object(asked.job_id), SONG)
    Ledger(kept).accept(asked)
    for folder in ("backup", ".cache/track-unmix"):
        (tmp_path / folder).mkdir(parents=True)
    said = {each: shell.types(each) for each in commands("docs/at-home.md") if is_run(each)}
    assert "unmix_" in next(told for each, told in said.items() if each.endswith("keys create anna"))
    assert any("free:" in told for told in said.values())
    for copy in ("backup", "srv"):
        assert FileStore(tmp_path / copy / "unmix" / "store").get(song_object(asked.job_id))[0] == SONG
    assert not (tmp_path / ".unmix").exists()


def test_the_first_lines_of_rest_and_worker_serve_a_song_beside_a_redis_server(redis_url: str, tmp_path: Path) -> None:
    port = free_port()
    environment = {**os.environ, **FAST, "UNMIX_PORT": str(port), "UNMIX_THREADS": "1"}
    processes = []
    for page in ("rest/README.md", "worker/README.md"):
        command = next(each for each in commands(page) if "redis://localhost:6379/0" in each)
        command = command.replace("redis://localhost:6379/0", redis_url).replace(".venv/bin/python", sys.executable)
        with (tmp_path / "log").open("ab") as log:
            processes.append(
                subprocess.Popen(["env", *shlex.split(command)], env=environment, cwd=tmp_path, stdout=log, stderr=log)
            )
    jobs = f"http://localhost:{port}/apiv1/jobs"

    def is_ready() -> bool:
        try:
            return requests.get(f"http://localhost:{port}/healthz", timeout=10).ok
        except requests.ConnectionError:
            return False

    def is_done() -> bool:
        return str(requests.get(f"{jobs}/{job_id}", timeout=10).json()["status"]) == "done"

    try:
        eventually(is_ready, "REST answers", explain=(tmp_path / "log").read_text)
        job_id = requests.post(jobs, SONG, timeout=30).json()["hash"]
        eventually(is_done, "the song is separated", explain=(tmp_path / "log").read_text)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)
