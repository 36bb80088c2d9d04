"""`unmix export` and `import`: a store in a folder and back, as a person does it."""

from pathlib import Path

import pytest

from command_line import unmix
from unmix import names
from unmix.job import JobRequest, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.store.file import FileStore

SONG = b"a song"
JOB = names.hash_song(SONG)


@pytest.fixture
def service(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A store with one job, which the settings name."""
    monkeypatch.setenv("UNMIX_STORE_URL", f"file://{store.root}")
    store.put(names.song_object(JOB), SONG)
    ledger = Ledger(store)
    ledger.accept(JobRequest(JOB, SeparationOptions("demo"), utc_now()))
    return ledger


def test_all_goes_into_a_folder_that_nobody_else_may_read_and_comes_back(
    service: Ledger,
    store: FileStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    backup = tmp_path / "disk" / "backup"
    assert unmix("export", backup) == 0
    assert capsys.readouterr().out.startswith("jobs: 1; copied: 3 objects, ")
    modes = {path.stat().st_mode & 0o777 for path in backup.rglob("*")}
    assert modes == {0o600, 0o700}
    assert unmix("export", backup) == 0
    assert capsys.readouterr().out == "jobs: 1; copied: 0 objects, 0 B; there already: 3 objects\n"
    monkeypatch.setenv("UNMIX_STORE_URL", f"file://{tmp_path}/new")
    assert unmix("import", backup) == 0
    assert Ledger(FileStore(tmp_path / "new")).end(JOB) == service.end(JOB)


def test_jobs_that_are_gone_are_told_and_deleted_on_demand(
    service: Ledger, store: FileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = names.hash_song(b"another song")
    service.accept(JobRequest(other, SeparationOptions("demo"), utc_now()))
    backup = tmp_path / "backup"
    assert unmix("export", backup) == 0
    service.removal.remove_job(other)
    assert unmix("export", backup) == 0
    assert "gone here: 1 jobs; --delete removes them" in capsys.readouterr().err
    assert unmix("export", backup, "--delete") == 0
    assert "gone here: 1 jobs\n" in capsys.readouterr().out
    assert Ledger(FileStore(backup)).request(other) is None


def test_what_is_damaged_is_an_error(
    service: Ledger, store: FileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put(names.song_object(JOB), b"b song")
    assert unmix("export", tmp_path / "backup") == 1
    assert f"not copied: {names.song_object(JOB)} is damaged" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("command", "folder", "code"),
    [
        ("import", ".", "no_copy"),
        ("import", "store", "same_store"),
        ("export", "store", "same_store"),
    ],
)
def test_a_folder_that_cannot_be_meant_is_refused(
    service: Ledger, tmp_path: Path, command: str, folder: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unmix(command, tmp_path / folder) == 1
    assert f"({code})" in capsys.readouterr().err


def test_a_store_that_is_not_there_is_neither_made_nor_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNMIX_STORE_URL", f"file://{tmp_path}/mistyped")
    assert unmix("export", tmp_path / "backup") == 1
    assert "(bucket_missing)" in capsys.readouterr().err
    assert not (tmp_path / "mistyped").exists()
