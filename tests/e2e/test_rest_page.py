"""The commands in `rest/README.md`, run word for word against a service; every route of the table is among them."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from werkzeug.routing import Map, Rule

from stack import Stack
from support import SongServer, make_song
from unmix.names import hash_song
from unmix_rest.routes.table import ROUTES

PAGE = Path(__file__).parents[2] / "rest" / "README.md"
HOST = "localhost:5000"
SONG = make_song(7, seed=41)
#: Long enough to be cancelled before it is done.
LONG_SONG = make_song(30, seed=42)
#: Exit status of curl when its own limit of time is over.
ENDED_BY_CURL = 28
#: Exit status of curl when it is to fail at answers that are errors.
REFUSED_BY_REST = 22
STEMS = {"vocals", "drums", "bass", "other"}
SENDING = {"-F", "--json", "--data-binary"}


def commands() -> list[str]:
    text = re.sub(r"\\\n +", "", PAGE.read_text())
    return [line.strip() for line in text.splitlines() if re.match(r"    (curl|echo) ", line)]


def endpoint_of(command: str) -> str:
    """Return the endpoint that a command asks."""
    words = shlex.split(command.partition("| ")[2] or command)
    method = "PUT" if "-T" in words else "POST" if SENDING & {*words} else "GET"
    method = words[words.index("-X") + 1] if "-X" in words else method
    (url,) = (word for word in words if word.startswith(HOST))
    urls = Map([Rule(route.rule, endpoint=route.endpoint, methods=route.methods) for route in ROUTES])
    endpoint, _ = urls.bind(HOST).match(urlsplit(f"http://{url}").path.replace("$HASH", "0" * 64), method)
    return str(endpoint)


def have_it_done(service: Stack, job_id: str) -> None:
    """Send the song unless its stems are all there: a command may have removed some, and each sending is checked."""
    job = requests.get(f"{service.url}/apiv1/jobs/{job_id}", timeout=30).json()
    if len(job.get("stems", {})) < len(STEMS):
        assert service.post(SONG) == job_id
        assert service.wait_until_over(job_id)["status"] == "done"


def test_every_route_has_a_command() -> None:
    assert {endpoint_of(command) for command in commands()} == {route.endpoint for route in ROUTES}


@pytest.mark.timeout(600)
def test_the_commands_do_what_the_page_says(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    settings = {"UNMIX_PARTS_LEAST_SECONDS": "3", "UNMIX_SONG_URLS": "true", "UNMIX_SONG_URL_ALLOW": "127.0.0.1"}
    service = make_stack(**settings).start()
    (tmp_path / "song.wav").write_bytes(SONG)

    def run(command: str, job_id: str) -> str:
        fail_loudly = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }; set -o pipefail'
        result = subprocess.run(
            ["bash", "-c", f"{fail_loudly}; {command.replace(HOST, service.url.removeprefix('http://'))}"],
            env={"HASH": job_id, "UPLOAD": upload_id, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        # What has no end is ended by curl, which says so.
        well = (0, ENDED_BY_CURL) if " -m " in command else (0,)
        if command.endswith("/links"):  # nobody needs one here, as nobody needs a key
            well = (REFUSED_BY_REST,)
        assert result.returncode in well, f"{command}: {result.stdout} {result.stderr}"
        return result.stdout

    cancelled = upload_id = ""
    for command in commands():
        if "/cancel" in command:
            cancelled = service.post(LONG_SONG, format="flac")
            assert '"cancelled"' in run(command, cancelled)
        elif "/retry" in command:
            assert '"queued"' in run(command, cancelled)
            assert run(f"curl -X DELETE {HOST}/apiv1/jobs/$HASH", cancelled) == ""
        elif command.endswith("/uploads"):
            upload_id = json.loads(run(command, ""))["upload_id"]
        elif '"url"' in command and "callback" not in command:
            with SongServer({"/song.mp3": SONG}) as elsewhere:
                fetched = json.loads(run(command.replace("https://example.com", elsewhere.url), ""))["hash"]
                assert service.wait_until_over(fetched)["status"] == "done"
        else:
            have_it_done(service, job_id := hash_song(SONG))
            run(command, job_id)
    (set_hash,) = re.findall(r"^    (HASH=.*)$", PAGE.read_text(), re.MULTILINE)
    assert run(f'{set_hash}; echo "$HASH"', "").strip() == hash_song(SONG)
    assert (tmp_path / "My song - vocals.mp3").stat().st_size > 1000
    assert len((tmp_path / "start.mp3").read_bytes()) == 100
    assert (tmp_path / "start.flac").read_bytes().startswith(b"fLaC")
