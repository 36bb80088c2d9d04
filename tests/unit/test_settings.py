"""Settings: the environment, the names of older deployments, and the page that lists them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from unmix.errors import InputError
from unmix.runtime.configured import read_settings
from unmix.settings import OLD_NAMES, Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_every_setting_and_every_old_name_is_documented() -> None:
    page = PAGE.read_text()
    for name, field in Settings.model_fields.items():
        row = f"| `UNMIX_{name.upper()}` |"
        assert row in page, f"{row} is missing"
        line = next(line for line in page.splitlines() if line.startswith(row))
        assert field.description is not None, f"{name} has no description"
        assert field.description in line
    for old in OLD_NAMES:
        assert f"`{old}`" in page


def test_the_page_lists_no_setting_that_is_gone() -> None:
    rows = [line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `UNMIX_")]
    assert {row.removeprefix("UNMIX_").lower() for row in rows} == set(Settings.model_fields)


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMIX_LEASE_SECONDS", "2.5")
    assert Settings().lease_seconds == 2.5


def test_names_of_older_deployments_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "redis")
    monkeypatch.setenv("REDIS_PORT", "6380")
    monkeypatch.setenv("MINIO_HOST", "minio:9000")
    monkeypatch.setenv("MINIO_ACCESS_KEY", "key")
    settings = Settings()
    assert settings.redis_url == "redis://redis:6380/0"
    assert settings.store_url == "s3+http://minio:9000"
    assert settings.store_access_key.get_secret_value() == "key"
    monkeypatch.setenv("MINIO_SECURE", "true")
    assert Settings().store_url == "s3://minio:9000"


def test_the_port_that_kubernetes_injects_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "redis")
    monkeypatch.setenv("REDIS_PORT", "tcp://10.0.0.1:6379")
    assert Settings().redis_url == "redis://redis:6379/0"


def test_a_new_name_wins_over_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_HOST", "old")
    monkeypatch.setenv("UNMIX_REDIS_URL", "redis://new:6379/0")
    assert Settings().redis_url == "redis://new:6379/0"


def test_a_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMIX_FETCH", "rpop")
    with pytest.raises(ValidationError, match="fetch"):
        Settings()


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMIX_STORE_SECRET_KEY", "hunter2")
    assert "hunter2" not in repr(Settings())


def test_the_default_model_is_always_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMIX_MODEL", "demo")
    monkeypatch.setenv("UNMIX_MODELS", "htdemucs, demo,htdemucs_ft")
    assert Settings().allowed_models == ("demo", "htdemucs", "htdemucs_ft")


def test_the_longest_song_fits_as_wav_in_whatever_form_it_comes() -> None:
    """An hour of wav is the same song as an hour of mp3."""
    settings = Settings()
    song_bytes = settings.max_song_seconds * 44_100 * 2 * 2
    assert song_bytes <= settings.max_upload_mb << 20
    in_json_bytes = song_bytes * 4 / 3
    assert 4 * (in_json_bytes + song_bytes) <= settings.upload_room_mb << 20, "one client gets a quarter of the room"
    front_page = (PAGE.parents[1] / "README.md").read_text()
    assert f"have {settings.max_upload_mb} MiB (`UNMIX_MAX_UPLOAD_MB`)" in front_page


@pytest.mark.parametrize(
    "command", [["unmix_rest"], ["unmix_rest.gate", "gate"], ["unmix_worker"]], ids=lambda it: it[0]
)
def test_every_process_says_in_one_line_which_settings_are_wrong_and_not_what_was_given(
    command: list[str], tmp_path: Path
) -> None:
    wrong = dict.fromkeys(("UNMIX_PORT", "UNMIX_FETCH", "UNMIX_MODLE"), "of-my-secret")
    run = subprocess.run(
        [sys.executable, "-m", *command], env={**os.environ, **wrong}, cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode != 0
    (line,) = run.stderr.splitlines()
    assert "UNMIX_MODLE is no setting, UNMIX_MODEL is; " in line
    assert "UNMIX_FETCH has to be one of 'blmove' or 'blpop'; UNMIX_PORT has to be a whole number" in line
    assert "secret" not in line


def test_only_what_looks_like_a_setting_has_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("unmix_port", "5001")
    monkeypatch.setenv("UNMIXED", "1")
    for name, value in (("SERVICE_HOST", "10.0.0.1"), ("PORT", "tcp://10.0.0.1:80"), ("PORT_80_TCP_PROTO", "tcp")):
        monkeypatch.setenv(f"UNMIX_SONGS_{name}", value)  # as Kubernetes does beside a Service named unmix-songs
    assert read_settings().port == 5001
    monkeypatch.setenv("UNMIX_SONGS", "1")
    with pytest.raises(InputError, match="UNMIX_SONGS is no setting"):
        read_settings()
