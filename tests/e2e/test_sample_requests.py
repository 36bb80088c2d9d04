"""What a user types: local mode, the guided tour over plain HTTP, and `unmix submit`."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from command_line import unmix
from local_mode import LocalMode
from support import PATIENCE_SECONDS, eventually, is_alive, make_song
from unmix.audio.song_reader import measure
from unmix.local.demo import decode
from unmix.names import hash_song

CLIENT = Path(__file__).parents[2] / "sample-requests.py"
STEMS = ["bass", "drums", "other", "vocals"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMode]:
    """One running local mode for all tests that do not disturb it."""
    local = LocalMode(tmp_path_factory.mktemp("local"))
    local.start()
    yield local
    local.stop()


@pytest.fixture
def own_local(tmp_path: Path) -> Iterator[LocalMode]:
    """A local mode for one test, not started yet."""
    local = LocalMode(tmp_path / "own")
    yield local
    if local.process is not None and local.process.poll() is None:
        local.stop()


def tour(*arguments: str | Path, rest: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run sample-requests.py in `folder` against the server `rest`."""
    return subprocess.run(
        [sys.executable, CLIENT, *arguments],
        env={**os.environ, "REST": rest},
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_the_tour_prints_the_hash_and_the_queue_and_brings_all_stems(service: LocalMode, tmp_path: Path) -> None:
    song = make_song(5, seed=11)
    (tmp_path / "my song.wav").write_bytes(song)
    done = tour("my song.wav", "--wait", rest=f"localhost:{service.port}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f'"hash": "{hash_song(song)}"' in done.stdout
    assert '"queue": [' in done.stdout
    stems = sorted((tmp_path / "stems" / "my song").iterdir())
    assert [stem.name for stem in stems] == [f"{name}.mp3" for name in STEMS]
    assert {measure(stem).samples for stem in stems} == {5 * 44100}


def test_without_arguments_the_tour_sends_every_mp3_in_data(service: LocalMode, tmp_path: Path) -> None:
    songs = {name: make_song(2, seed=seed) for seed, name in enumerate(("one", "two"), start=20)}
    (tmp_path / "data").mkdir()
    for name, song in songs.items():
        (tmp_path / "data" / f"{name}.mp3").write_bytes(song)
    (tmp_path / "data" / "notes.txt").write_text("not to be sent")
    done = tour(rest=f"http://localhost:{service.port}/", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for song in songs.values():
        assert requests.get(f"{service.url}/apiv1/jobs/{hash_song(song)}", timeout=30).status_code == 200
    assert not (tmp_path / "stems").exists()


def test_a_file_that_is_no_song_fails_the_tour_but_not_two_of_one_name(service: LocalMode, tmp_path: Path) -> None:
    (tmp_path / "junk.mp3").write_text("this is not music " * 100)
    (tmp_path / "song.mp3").write_bytes(make_song(2, seed=30))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "song.mp3").write_bytes(make_song(3, seed=32))
    done = tour("junk.mp3", "song.mp3", "a/song.mp3", "--wait", rest=f"localhost:{service.port}", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("junk.mp3: ")
    assert "Traceback" not in done.stderr
    for folder, seconds in (("song", 2), ("song (2)", 3)):
        stems = list((tmp_path / "stems" / folder).iterdir())
        assert len(stems) == 4
        assert {measure(stem).samples for stem in stems} == {seconds * 44100}


def test_the_tour_gives_up_waiting_when_it_is_told_how_long(service: LocalMode, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(make_song(8, seed=31))
    done = tour("song.wav", "--wait", "--timeout", "0", rest=f"localhost:{service.port}", folder=tmp_path)
    assert done.returncode == 1
    assert "song.wav: still " in done.stderr
    assert not (tmp_path / "stems").exists()


def test_the_tour_says_how_to_start_a_server_that_is_not_there(tmp_path: Path, unused_port: int) -> None:
    (tmp_path / "song.mp3").write_bytes(make_song(1, seed=1))
    done = tour("song.mp3", rest=f"localhost:{unused_port}", folder=tmp_path)
    assert done.returncode == 1
    assert "make run" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_tour_says_what_to_install_where_nothing_is(tmp_path: Path) -> None:
    bare = [sys.executable, "-I", "-S", str(CLIENT), "song.mp3"]
    done = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("there is no ")
    assert "run .venv/bin/python sample-requests.py" in line


def test_the_tour_without_songs_says_where_to_put_them(tmp_path: Path) -> None:
    done = tour(rest="localhost:1", folder=tmp_path)
    assert done.returncode == 2
    assert "data/" in done.stderr


def test_submit_brings_the_asked_stems_in_the_asked_format(service: LocalMode, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(make_song(3, seed=40))
    options = ("--url", service.url, "--stems", "vocals,bass", "--format", "wav", "--wait", "-o", tmp_path / "out")
    assert unmix("submit", tmp_path / "song.wav", *options) == 0
    stems = sorted((tmp_path / "out" / "song").iterdir())
    assert [stem.name for stem in stems] == ["bass.wav", "vocals.wav"]
    assert {measure(stem).samples for stem in stems} == {3 * 44100}
    assert measure(stems[0]).container == "wav"


def test_submit_brings_stems_that_add_up_to_the_song_if_asked_to(service: LocalMode, tmp_path: Path) -> None:
    song, out = tmp_path / "song.wav", tmp_path / "out"
    song.write_bytes(make_song(3, seed=42))
    options = ("--url", service.url, "--stems", ",".join([*STEMS, "instrumental"]), "--format", "wav")
    assert unmix("submit", song, *options, "--mixture-consistency", "--wait", "-o", out) == 0
    stems = {name: decode(out / "song" / f"{name}.wav") for name in (*STEMS, "instrumental")}
    for parts in (STEMS, ["vocals", "instrumental"]):
        assert np.abs(sum(stems[name] for name in parts) - decode(song)).max() <= 2.1 / 32_768


def test_submit_passes_on_why_the_server_refuses(
    service: LocalMode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "song.wav").write_bytes(make_song(1, seed=41))
    assert unmix("submit", tmp_path / "song.wav", "--url", service.url, "--model", "no-such-model") == 1
    errors = capsys.readouterr().err
    assert "(unknown_model)" in errors
    assert errors.startswith(f"error: {tmp_path / 'song.wav'}: ")


def test_submit_says_that_nobody_answers(tmp_path: Path, unused_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "song.wav").write_bytes(make_song(1, seed=42))
    assert unmix("submit", tmp_path / "song.wav", "--url", f"http://localhost:{unused_port}") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "(rest_unavailable)" in line
    assert "start one with `make run`" in line


def test_local_mode_is_ready_when_its_workers_have_loaded_the_model_and_ends_all_processes_on_sigterm(
    own_local: LocalMode,
) -> None:
    sign_of_life = own_local.data_dir / "run" / "worker-1.alive"
    sign_of_life.parent.mkdir(parents=True)
    sign_of_life.touch()
    os.utime(sign_of_life, (0, 0))  # left by an earlier run
    own_local.start()
    assert sign_of_life.stat().st_mtime > 0
    processes = own_local.descendants()
    assert len(processes) >= 5  # guard, Redis, REST, janitor, worker and its child
    assert own_local.stop() == 0
    assert not any(is_alive(pid) for pid in processes)


@pytest.mark.slow
def test_local_mode_ends_when_a_slow_upload_has_been_answered(own_local: LocalMode) -> None:
    own_local.start(UNMIX_SHUTDOWN_SECONDS="3", UNMIX_REST_SHUTDOWN_SECONDS="60")
    assert own_local.process is not None
    song = make_song(2, seed=22)
    body = json.dumps({"mp3": base64.b64encode(song).decode()}).encode()
    head = f"POST /apiv1/separate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", own_local.port), timeout=PATIENCE_SECONDS) as peer:
        peer.sendall(head.encode() + body[:1000])
        assert requests.get(f"{own_local.url}/healthz", timeout=30).status_code == 200  # and those bytes were read
        own_local.process.terminate()
        log = own_local.data_dir / "logs" / "rest.log"
        eventually(lambda: "takes no more connections" in log.read_text(), "REST was told to end")
        time.sleep(4)  # longer than what the others have to end
        peer.sendall(body[1000:])
        response = HTTPResponse(peer)
        response.begin()
        assert (response.status, json.loads(response.read())["hash"]) == (200, hash_song(song))
    said, _ = own_local.process.communicate()
    assert own_local.process.returncode == 0
    assert "rest did not end" not in said


def test_local_mode_that_can_never_work_ends_with_one_sentence_and_the_remedy(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unmix.cli", "local", "--model", "nosuch", "--port", "0", "--workers", "2"]
    done = subprocess.run([*command, "--data-dir", tmp_path / "data"], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: model 'nosuch' is not available. Check the name, go online once")
    assert "--model demo" in line


def test_a_song_goes_on_after_local_mode_was_killed_and_started_again(own_local: LocalMode, tmp_path: Path) -> None:
    song = make_song(15, seed=50)
    (tmp_path / "song.wav").write_bytes(song)
    own_local.start()
    assert unmix("submit", tmp_path / "song.wav", "--url", own_local.url) == 0
    assert own_local.heard("accepted ") == "accepted   song.wav\n"
    job = f"{own_local.url}/apiv1/jobs/{hash_song(song)}"
    eventually(lambda: requests.get(job, timeout=30).json()["progress"] > 0, "the song makes progress")
    processes = own_local.descendants()
    own_local.kill()
    eventually(lambda: not any(is_alive(pid) for pid in processes), "the guard has ended all")
    own_local.start()
    assert own_local.heard("done ") == "done       song.wav\n"
    assert requests.get(job, timeout=30).json()["status"] == "done"


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_songs_are_served(own_local: LocalMode, tmp_path: Path) -> None:
    own_local.start()
    for pid in own_local.descendants():
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if "unmix.local.guard" not in process.cmdline():
                process.kill()
    song = make_song(2, seed=60)
    (tmp_path / "song.wav").write_bytes(song)
    eventually(lambda: unmix("submit", tmp_path / "song.wav", "--url", own_local.url) == 0, "REST accepts a song again")
    job = f"{own_local.url}/apiv1/jobs/{hash_song(song)}"
    eventually(lambda: requests.get(job, timeout=30).json()["status"] == "done", "the song is done")
