"""What all commands of `unmix` share: errors in one line, and nothing heavy loaded before it is needed."""

import fcntl
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
import redis
import typer

from command_line import unmix
from unmix.audio.formats import MEDIA_TYPES
from unmix.cli.batches import STOPPED, stoppable
from unmix.cli.options import Format


def test_the_command_line_loads_neither_torch_nor_flask() -> None:
    heavy = {"torch", "flask", "demucs", "redis"}
    code = f"import sys, unmix.cli.__main__, unmix.local.local; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_a_wrong_setting_is_named_and_no_traceback_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNMIX_LEASE_SECONDS", "soon")
    assert unmix("janitor") == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert "UNMIX_LEASE_SECONDS has to be a number" in errors
    assert "(bad_setting)" in errors


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("PORT", "abc", "a whole number"),
        ("PORT", "70000", "65535 or less"),
        ("LEASE_SECONDS", "0", "more than 0"),
        ("OPEN", "perhaps", "true or false"),
        ("PRECISION", "good", "one of 'fast' or 'exact'"),
        ("CORS_ORIGINS", "example.com", "is no origin as browsers send it"),
    ],
)
def test_what_a_setting_can_be_is_said_in_one_line(
    name: str, value: str, wanted: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"UNMIX_{name}", value)
    assert unmix("janitor") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"UNMIX_{name}" in line
    assert wanted in line


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert unmix("--version") == 0
    assert capsys.readouterr().out == f"track-unmix {version('track-unmix')}\n"


def test_a_terminal_that_is_closed_stops_a_command_unless_nohup_says_otherwise() -> None:
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        with pytest.raises(typer.Exit) as caught, stoppable():
            signal.raise_signal(signal.SIGHUP)
        assert caught.value.exit_code == STOPPED
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_local_mode_refuses_a_port_in_use_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert unmix("local", "--model", "demo", "--port", str(port), "--data-dir", tmp_path / "data") == 1
    errors = capsys.readouterr().err
    assert f"port {port} is in use" in errors
    assert "--port" in errors
    assert "(port_in_use)" in errors
    assert not (tmp_path / "data").exists()


def test_local_mode_refuses_a_data_folder_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert unmix("local", "--model", "demo", "--port", "0", "--data-dir", tmp_path) == 1
    assert "(data_dir_in_use)" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_an_error_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    assert unmix("local", "--model", "demo", "--port", "0", "--data-dir", tmp_path / "data") == 1
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert f"{tmp_path / 'data'} is a file; name a folder" in errors
    assert "(bad_data_dir)" in errors


def test_logs_prints_the_lines_oldest_first_and_leaves_them_when_it_only_peeks(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNMIX_REDIS_URL", redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("logging", "node.rest.info:first", "node.worker.debug:second")
        assert unmix("logs", "--peek") == 0
        assert capsys.readouterr().out.splitlines() == ["node.rest.info:first", "node.worker.debug:second"]
        assert client.llen("logging") == 2


def test_logs_takes_the_lines_from_the_list_until_sigterm(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMIX_REDIS_URL", redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("logging", "node.rest.info:first")
        process = subprocess.Popen([sys.executable, "-m", "unmix.cli", "logs"], stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "node.rest.info:first\n"
            client.lpush("logging", "node.rest.info:second")
            assert process.stdout.readline() == "node.rest.info:second\n"
            process.terminate()
        assert process.returncode == 0
        assert client.llen("logging") == 0


def test_a_foreign_log_line_cannot_steer_the_terminal(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNMIX_REDIS_URL", redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("logging", b"\x1b[2J\xff gone")
    assert unmix("logs", "--peek") == 0
    assert capsys.readouterr().out == "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER} gone\n"


def test_logs_says_in_one_line_that_redis_is_away(
    unused_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNMIX_REDIS_URL", f"redis://127.0.0.1:{unused_port}/0")
    assert unmix("logs", "--peek") == 1
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert "(queue_unavailable)" in errors


def test_the_command_line_offers_the_formats_that_there_are() -> None:
    offered, _ = get_args(Format)
    assert get_args(offered) == tuple(MEDIA_TYPES)
