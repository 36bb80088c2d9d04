"""`unmix submit` over many songs, against a real REST server in this process, and a worker that is quick."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from command_line import unmix
from rest_server import RestServer
from rest_support import Rest
from support import eventually, make_song
from unmix.client import Client
from unmix.errors import NotFoundError
from unmix.job import JobStatus
from unmix.names import hash_song

STEMS = {"vocals": b"voice" * 100, "drums": b"drum" * 100}


class Worker:
    """Ends one job after the other as a worker would, and counts them."""

    def __init__(self, rest: Rest, stems: dict[str, bytes] | None, **end: Any) -> None:
        self.ended: list[str] = []
        self._finish_next = partial(rest.finish_next, stems, **end)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def has_ended(self, jobs: int) -> bool:
        return len(self.ended) >= jobs

    def did(self, jobs: int) -> bool:
        """Tell whether it has ended just so many jobs; of the last one a client may know before we do."""
        eventually(partial(self.has_ended, jobs), f"{jobs} jobs are over")
        return len(self.ended) == jobs

    def _work(self) -> None:
        while not self._stop.is_set():
            if job_id := self._finish_next():
                self.ended.append(job_id)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def worker(rest: Rest) -> Iterator[Worker]:
    with Worker(rest, STEMS) as worker:
        yield worker


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at jobs more often than a person needs."""
    monkeypatch.setattr("unmix.cli.submit.PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("unmix.cli.jobs.PAUSE_SECONDS", 0.05)


pytestmark = pytest.mark.usefixtures("quick")


def make_songs(folder: Path, *names: str) -> list[bytes]:
    """Make songs of these names, each another one."""
    songs = [make_song(0.2, seed=seed) for seed in range(len(names))]
    for name, song in zip(names, songs, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(song)
    return songs


def files(folder: Path) -> set[str]:
    """Every file below a folder but the notes that the command keeps there."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return found - {".unmix.jsonl"}


def submit(*arguments: str | Path, url: str, output: Path) -> int:
    return unmix("submit", *arguments, "--url", url, "--wait", "-o", output)


def test_folders_are_mirrored_and_what_is_done_is_skipped(
    worker: Worker, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    music, out = tmp_path / "music", tmp_path / "out"
    make_songs(music, "a.wav", "Album/b.wav", "Album/CD 2/c.wav")
    assert submit(music, url=url, output=out) == 0
    songs = ("a", "Album/b", "Album/CD 2/c")
    assert files(out) == {f"{song}/{stem}.mp3" for song in songs for stem in STEMS}
    assert (out / "a" / "vocals.mp3").read_bytes() == STEMS["vocals"]
    assert set(capsys.readouterr().out.splitlines()) == {str(out / file) for file in files(out)}
    (out / "Album" / "b" / "drums.mp3").unlink()
    (music / "d.wav").write_bytes(make_song(0.2, seed=77))
    assert worker.did(3)
    assert submit(music, url=url, output=out) == 0
    assert "2 songs done already, and skipped" in capsys.readouterr().err
    assert (out / "Album" / "b" / "drums.mp3").read_bytes() == STEMS["drums"]
    assert worker.did(4)  # the new one too: the other was there at the server
    assert submit(music, "--again", url=url, output=out) == 0
    assert "skipped" not in capsys.readouterr().err


def test_other_options_or_another_song_of_the_name_are_not_done_already(
    worker: Worker, url: str, tmp_path: Path
) -> None:
    make_songs(tmp_path, "a.wav")
    out = tmp_path / "out"
    for options in ((), ("--stems", "vocals,drums"), ("--bitrate-kbps", "128")):
        worker.ended.clear()
        assert submit(tmp_path / "a.wav", *options, url=url, output=out) == 0
        assert worker.did(1)
    (tmp_path / "a.wav").write_bytes(make_song(0.3, seed=9))
    assert submit(tmp_path / "a.wav", url=url, output=out) == 0
    assert worker.did(2)
    assert worker.ended[-1] == hash_song((tmp_path / "a.wav").read_bytes())


def test_a_dozen_songs_come_though_the_service_restarts_twice_and_none_is_made_twice(
    rest: Rest, worker: Worker, rest_server: RestServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"disc {number % 3}/{number}.wav" for number in range(12)]
    songs = make_songs(tmp_path / "music", *names)

    def restart_twice() -> None:
        for songs_done in (2, 7):
            eventually(partial(worker.has_ended, songs_done), f"{songs_done} songs are done")
            rest_server.stop()
            rest_server.start()

    restarting = threading.Thread(target=restart_twice)
    restarting.start()
    assert submit(tmp_path / "music", url=rest_server.url, output=tmp_path / "out") == 0
    restarting.join()
    assert files(tmp_path / "out") == {f"{name[:-4]}/{stem}.mp3" for name in names for stem in STEMS}
    assert worker.did(12)
    assert sorted(worker.ended) == sorted(map(hash_song, songs))
    assert "12 songs: 12 done" in capsys.readouterr().err


def test_a_song_that_fails_or_cannot_be_read_does_not_stop_the_others(
    rest: Rest, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, good = make_songs(tmp_path, "bad.wav", "good.wav")
    (tmp_path / "junk.wav").write_text("this is not music " * 100)
    rest.post_form(good)
    rest.finish(hash_song(good), STEMS)
    songs = [tmp_path / name for name in ("bad.wav", "junk.wav", "good.wav")]
    with Worker(rest, None, status=JobStatus.FAILED, error_code="poison", error="it crashed", ran=None):
        assert submit(*songs, url=url, output=tmp_path / "out") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert sorted(errors) == [
        f"error: {tmp_path / 'bad.wav'}: it crashed (poison)",
        f"error: {tmp_path / 'junk.wav'}: the bytes are not audio of any kind that is read here (not_audio)",
    ]
    assert files(tmp_path / "out") == {"good/drums.mp3", "good/vocals.mp3"}


def test_names_are_as_the_template_says_and_scripts_get_json(
    worker: Worker, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_songs(tmp_path, "a.wav")
    template = ("--name-template", "{name} ({stem})", "--json")
    assert submit(tmp_path / "a.wav", *template, url=url, output=tmp_path / "out") == 0
    assert files(tmp_path / "out") == {"a (vocals).mp3", "a (drums).mp3"}
    (told,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (told["state"], told["job"]) == ("done", hash_song((tmp_path / "a.wav").read_bytes()))
    assert told["files"]["vocals"] == str(tmp_path / "out" / "a (vocals).mp3")


@pytest.mark.parametrize("name", [b"...wav", b"gr\xfcn.wav", "Lied für 💃.wav".encode(), b"a\nb\x1b[2J.wav"])
def test_a_song_may_be_called_anything(worker: Worker, url: str, tmp_path: Path, name: bytes) -> None:
    song = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"music", name)))
    song.parent.mkdir()
    song.write_bytes(make_song(0.2, seed=1))
    assert submit(song, url=url, output=tmp_path / "out") == 0
    folder = name if name == b"...wav" else name[:-4]
    (made,) = {os.fsencode(path.name) for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert made == folder
    assert submit(song, url=url, output=tmp_path / "out") == 0
    assert worker.did(1)


def test_nothing_is_left_beside_the_stems_when_a_stem_cannot_be_fetched(
    worker: Worker, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_songs(tmp_path, "a.wav")
    download = Client.download

    def breaks(client: Client, job_id: str, stem: str, target: Path) -> Path:
        if stem == "vocals":
            raise NotFoundError("this stem was removed")
        return download(client, job_id, stem, target)

    monkeypatch.setattr(Client, "download", breaks)
    assert submit(tmp_path / "a.wav", url=url, output=tmp_path / "out") == 1
    assert "this stem was removed (not_found)" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_who_stops_waiting_is_told_that_the_songs_go_on_and_how_to_come_back(
    rest: Rest, url: str, tmp_path: Path
) -> None:
    make_songs(tmp_path, "a.wav")
    command = [sys.executable, "-m", "unmix.cli", "submit", "a.wav", "--wait", "--url", url]
    waiting = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    eventually(lambda: rest.queue.views.counts().waiting == 1, "the song was sent")
    waiting.send_signal(signal.SIGINT)
    _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    told = "stopped: what was sent goes on there, and the same command fetches what is missing"
    assert errors.splitlines()[-1] == told
    with Worker(rest, STEMS):
        assert submit(tmp_path / "a.wav", url=url, output=tmp_path / "stems") == 0
    assert files(tmp_path / "stems") == {"a/drums.mp3", "a/vocals.mp3"}


def test_watch_waits_for_jobs_and_tells_how_each_ended(
    rest: Rest, worker: Worker, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (song, other) = make_songs(tmp_path, "a.wav", "b.wav")
    jobs = [str(rest.post_form(data, name=name).json["hash"]) for name, data in (("a.wav", song), ("b.wav", other))]
    assert unmix("watch", *jobs, "--url", url) == 0
    assert "done: " in capsys.readouterr().err
    assert unmix("watch", jobs[0], "0" * 64, "--url", url) == 1
    assert "(not_found)" in capsys.readouterr().err


def test_download_saves_stems_under_the_name_of_the_song_and_not_twice(
    rest: Rest, worker: Worker, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_songs(tmp_path, "My song.wav")
    assert unmix("submit", tmp_path / "My song.wav", "--url", url) == 0
    job_id = capsys.readouterr().out.rpartition(" ")[2].strip()
    eventually(lambda: worker.ended == [job_id], "it is done")
    download = partial(unmix, "download", job_id, "--url", url, "-o", tmp_path / "out")
    assert download("--stems", "vocals") == 0
    assert files(tmp_path / "out") == {"My song - vocals.mp3"}
    before = (tmp_path / "out" / "My song - vocals.mp3").stat().st_mtime_ns
    assert download() == 0
    assert files(tmp_path / "out") == {"My song - vocals.mp3", "My song - drums.mp3"}
    assert (tmp_path / "out" / "My song - vocals.mp3").stat().st_mtime_ns == before
    assert download("--stems", "kazoo") == 1
    assert "but drums, vocals" in capsys.readouterr().err


def test_jobs_models_and_status_tell_what_there_is(
    rest: Rest, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (song,) = make_songs(tmp_path, "a.wav")
    assert unmix("submit", tmp_path / "a.wav", "--url", url) == 0
    capsys.readouterr()
    assert unmix("jobs", "--url", url) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(f"{hash_song(song)}  queued  a.wav")
    assert unmix("jobs", "--json", "--status", "queued", "--url", url) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "a.wav"
    assert unmix("jobs", "--status", "failed", "--url", url) == 0
    assert capsys.readouterr().out == ""
    assert unmix("models", "--url", url) == 0
    assert capsys.readouterr().out.splitlines()[0] == "demo  default  no worker has loaded it yet"
    assert unmix("status", "--url", url) == 0
    told = capsys.readouterr().out
    assert "ready\nwaiting: 1 song; being separated: 0\nno worker has been ready yet" in told
    assert told.endswith("no worker is ready, songs wait until one is: none was seen in the last day\n")
