"""The check of an upload in a process of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import psutil
import pytest

from rest_support import SONG, encoded
from support import command_line, eventually, is_alive, make_song
from unmix.audio.probe import AT_ONCE, Probe
from unmix.errors import AudioError, UnmixError


@pytest.fixture(autouse=True)
def songs_are_checked_once() -> None:
    """Here they are checked each time."""


@pytest.fixture
def song_file(tmp_path: Path) -> Path:
    path = tmp_path / "song"
    path.write_bytes(SONG)
    return path


def probe(**limits: float) -> Probe:
    usual = {"min_seconds": 0.1, "max_seconds": 60, "limit_seconds": 30, "cpu_seconds": 30, "memory_mb": 1024}
    return Probe(**{**usual, **limits})  # type: ignore[arg-type]


def impostor(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let `code` run in the place of the check."""
    popen = subprocess.Popen

    def run_code(command: list[str], **options: object) -> object:
        return popen([sys.executable, "-c", f"print('ready', flush=True)\n{code}"], **options)  # type: ignore[call-overload]

    monkeypatch.setattr("unmix.audio.probe.subprocess.Popen", run_code)


def test_a_song_is_measured_by_its_samples(song_file: Path) -> None:
    assert probe().check(song_file).duration_seconds == pytest.approx(2.0)


def test_a_cut_song_comes_with_a_warning(song_file: Path) -> None:
    whole = encoded(4, "mp3", "libmp3lame")
    song_file.write_bytes(whole[: len(whole) // 2])
    assert probe().check(song_file).warnings


def test_the_code_of_a_refusal_is_the_decoder_s(song_file: Path) -> None:
    for data, code in ((b"no song" * 100, "not_audio"), (make_song(0.05, 1), "too_short")):
        song_file.write_bytes(data)
        with pytest.raises(AudioError) as caught:
            probe().check(song_file)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.kill(os.getpid(), 11)",
        "import os; os._exit(3)",
        "raise MemoryError",
        "print()",
        """print('{"duration_seconds": 1, "warnings": [], "notes": []}'); raise MemoryError""",
        "print('la la la')",
        "print('[]')",
        """print('{"code": "x"}')""",
        """print('{"duration_seconds": 1, "warnings": 5, "notes": []}')""",
        "while True: print('la' * 9999)",
        "import os, time; os.close(1); time.sleep(600)",
    ],
    ids=["crash", "exit", "error", "silence", "before an error", "nonsense", "list", "half", "wrong", "flood", "mute"],
)
def test_a_check_that_dies_says_undecodable(song_file: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    impostor(monkeypatch, code)
    with pytest.raises(AudioError) as caught:
        probe().check(song_file)
    assert caught.value.code == "undecodable"


def test_a_check_that_hangs_is_ended_and_says_undecodable(song_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impostor(monkeypatch, "import time; time.sleep(600)")
    with pytest.raises(AudioError) as caught:
        probe(limit_seconds=1).check(song_file)
    assert caught.value.code == "undecodable"


def test_a_ctrl_c_in_the_terminal_of_rest_does_not_reach_a_check(
    song_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = '{"duration_seconds": %d, "warnings": [], "notes": []}'
    impostor(monkeypatch, f"import os; print({report!r} % os.getpgrp())")
    group = probe().check(song_file).duration_seconds
    assert group != os.getpgrp()  # which the terminal would signal


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere its limits end it")
def test_a_check_does_not_outlive_rest(tmp_path: Path) -> None:
    song = tmp_path / "song"
    os.mkfifo(song)  # a song that never comes, over which no CPU time is spent
    code = f"""
from pathlib import Path
from unmix.audio.probe import Probe
Probe(min_seconds=0.1, max_seconds=60, limit_seconds=600, cpu_seconds=600, memory_mb=1024).check(Path({str(song)!r}))
"""
    with subprocess.Popen([sys.executable, "-c", code]) as rest:
        try:
            writer = eventually(lambda: open_for_writing(song), "the check reads the song")
            assert writer is not None
            with writer:
                (check,) = psutil.Process(rest.pid).children()
                rest.kill()
                eventually(lambda: not is_alive(check.pid), "the check is gone too")
        finally:
            rest.kill()


class GoneError(Exception):
    """Whoever sent a song has gone."""


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A song that never comes, over which no CPU time is spent."""
    path = tmp_path / "endless"
    os.mkfifo(path)
    return path


def checks_of(song: Path) -> list[int]:
    """The pids of the processes that check it."""
    children = psutil.Process().children()
    return [child.pid for child in children if is_alive(child.pid) and str(song) in command_line(child)]


def test_the_check_of_a_song_ends_when_its_sender_goes(endless: Path) -> None:
    began = threading.Event()

    def go_on() -> None:
        if checks_of(endless):
            began.set()
            raise GoneError

    with pytest.raises(GoneError):
        probe().check(endless, go_on=go_on)
    assert began.is_set()
    assert checks_of(endless) == []


@contextmanager
def occupied(shared: Probe, song: Path, *, songs: int) -> Iterator[None]:
    """Let client `a` have so many songs checked, or wait for that, of which none comes to an end."""
    is_over = threading.Event()

    def stop() -> None:
        if is_over.is_set():
            raise GoneError

    def check() -> None:
        with suppress(GoneError):
            shared.check(song, client="a", go_on=stop)

    threads = [threading.Thread(target=check) for _ in range(songs)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(checks_of(song)) == AT_ONCE, "no turn is left")
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_a_song_whose_sender_goes_while_it_waits_is_not_checked(endless: Path, song_file: Path) -> None:
    def gone() -> None:
        raise GoneError

    shared = probe()
    with occupied(shared, endless, songs=AT_ONCE), pytest.raises(GoneError):
        shared.check(song_file, client="a", go_on=gone)


def test_songs_of_one_client_that_take_long_do_not_hold_up_another_client(endless: Path, song_file: Path) -> None:
    shared = probe()
    with occupied(shared, endless, songs=3 * AT_ONCE):
        for _ in range(3):
            assert shared.check(song_file, client="b").duration_seconds == pytest.approx(2.0)
        eventually(lambda: len(checks_of(endless)) == AT_ONCE, "what had to make room goes on")


def test_a_song_that_costs_too_much_is_refused_with_a_code_of_its_own(song_file: Path) -> None:
    song_file.write_bytes(encoded(10, "mp3", "libmp3lame") * 360)
    with pytest.raises(AudioError) as caught:
        probe(cpu_seconds=1, max_seconds=9999).check(song_file)
    assert caught.value.code == "too_costly"


def test_small_files_may_cost_less_than_large_ones(song_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    popen = subprocess.Popen

    def look(command: list[str], **options: object) -> object:
        asked.append(int(command[command.index(str(song_file)) + 1]))
        return popen(["echo", ""], **options)  # type: ignore[call-overload]

    monkeypatch.setattr("unmix.audio.probe.subprocess.Popen", look)
    for size_bytes in (1, 4 << 20, 100 << 20):
        os.truncate(song_file, size_bytes)
        with pytest.raises(UnmixError):
            probe(cpu_seconds=30).check(song_file)
    assert asked == [7, 18, 30]


def open_for_writing(pipe: Path) -> BinaryIO | None:
    """Open a named pipe that somebody reads from, or return None."""
    with suppress(OSError):
        return os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb")
    return None


def test_a_check_that_cannot_start_is_not_the_song_s_fault(song_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unmix.audio.probe.sys.executable", "/bin/false")
    with pytest.raises(UnmixError) as caught:
        probe().check(song_file)
    assert (caught.value.code, caught.value.retryable) == ("probe_unavailable", True)
    monkeypatch.setattr("unmix.audio.probe.sys.executable", "/no/such/python")
    with pytest.raises(UnmixError) as caught:
        probe().check(song_file)
    assert caught.value.code == "probe_unavailable"


def test_the_limits_hold_while_a_song_is_decoded(tmp_path: Path) -> None:
    # Stands in for the decoder: tells what the process may do at the moment at which it would decode.
    (tmp_path / "spy.py").write_text(
        """
import json, resource, unmix.audio.song_reader, unmix.audio.probe
from unmix.errors import AudioError

def spy(path, **limits):
    names = ("AS", "CPU", "FSIZE", "CORE")
    raise AudioError(json.dumps([resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names]))

unmix.audio.song_reader.measure = spy
unmix.audio.probe.main()
"""
    )
    # Not shut in, as the spy could not even ask then.
    song = str(tmp_path / "spy.py")
    command = [sys.executable, song, song, "7", "0.1", "60", "512", "off"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    limits = json.loads(json.loads(run.stdout.splitlines()[1])["message"])
    cpu_seconds, hard = limits[1]
    assert cpu_seconds > 7  # and what was spent before, which is not the song's
    assert hard == cpu_seconds + 1
    assert [limits[0], *limits[2:]] == [[512 << 20] * 2, [0, 0], [0, 0]]


def test_the_check_knows_no_secrets(song_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMIX_STORE_SECRET_KEY", "secret")
    seen: dict[str, str] = {}
    popen = subprocess.Popen

    def look(command: list[str], *, env: dict[str, str], **options: object) -> object:
        seen.update(env)
        return popen(command, env=env, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("unmix.audio.probe.subprocess.Popen", look)
    probe().check(song_file)
    assert "PATH" in seen
    assert not [name for name in seen if name.startswith(("UNMIX_", "AWS_", "MINIO_"))]


def test_only_so_many_checks_run_at_once(song_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = 0
    most = 0
    lock = threading.Lock()
    several = threading.Barrier(AT_ONCE, timeout=30)
    run = Probe._run

    def count(*args: Any) -> object:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        several.wait()
        try:
            return run(*args)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(Probe, "_run", count)
    shared = probe()
    threads = [threading.Thread(target=shared.check, args=(song_file,)) for _ in range(3 * AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == AT_ONCE


def test_nothing_is_left_beside_the_song(song_file: Path) -> None:
    probe().check(song_file)
    assert os.listdir(song_file.parent) == ["song"]
