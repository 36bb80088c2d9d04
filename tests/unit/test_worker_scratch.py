"""The worker's scratch folder: what dead workers left goes, what living ones need stays, and what a bad disk does."""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import redis_login
from unmix.errors import EngineError, StoreError
from unmix_worker.scratch import Scratch

#: A worker in the middle of a song, as far as its scratch folder is concerned.
WORKER = """
import sys, time
from pathlib import Path
from unmix_worker.scratch import Scratch
with Scratch(Path(sys.argv[1])) as scratch, scratch.song() as folder:
    (folder / "song").write_bytes(b"la la")
    print(folder, flush=True)
    time.sleep(3600)
"""


@contextmanager
def working(root: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Run a worker in a process of its own; yields it and the folder of its song."""
    command = [sys.executable, "-c", WORKER, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            yield worker, Path(worker.stdout.readline().rstrip("\n"))
        finally:
            worker.kill()


def files(root: Path) -> list[str]:
    """What lies there, but for the locks."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != ".lock")


def folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()]


def test_a_song_has_a_fresh_folder_that_goes_with_it(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        with scratch.song() as first:
            (first / "stems").mkdir()
            (first / "stems" / "vocals.mp3").write_bytes(b"voice")
        with scratch.song() as second:
            assert list(second.iterdir()) == []
        assert files(tmp_path) == []
    assert folders(tmp_path) == []


def fail_over_song(folder: Path) -> None:
    (folder / "song").write_bytes(b"la la")
    raise StoreError("the store is away")


def fill_the_disk(folder: Path) -> None:
    (folder / "song").symlink_to("/dev/full")
    (folder / "song").write_bytes(b"la la")


def test_the_folder_of_a_song_that_failed_goes_too(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        with pytest.raises(StoreError), scratch.song() as folder:
            fail_over_song(folder)
        assert files(tmp_path) == []


def test_what_a_killed_worker_left_is_removed_by_the_next(tmp_path: Path) -> None:
    with working(tmp_path) as (worker, folder):
        worker.kill()
        worker.wait()
    assert (folder / "song").exists()
    with Scratch(tmp_path):
        assert not folder.exists()
        assert len(folders(tmp_path)) == 1


def test_the_folder_of_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    with working(tmp_path) as (_, folder):
        with Scratch(tmp_path), Scratch(tmp_path):
            assert len(folders(tmp_path)) == 3
        assert (folder / "song").read_bytes() == b"la la"
        assert len(folders(tmp_path)) == 1


def test_what_is_not_a_workers_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"sun")
    with Scratch(tmp_path):
        assert files(tmp_path) == ["holiday/photo.jpg"]
    assert files(tmp_path) == ["holiday/photo.jpg"]


def test_without_a_setting_it_lies_among_the_temporary_files_and_is_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Scratch(None) as scratch, scratch.song() as folder:
        root = tmp_path / f"unmix-{os.getuid()}"
        assert folder.is_relative_to(root)
        assert root.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    root = tmp_path / "file" / "scratch"
    with pytest.raises(EngineError) as caught:
        Scratch(root)
    assert caught.value.code == "scratch_failed"
    assert str(root) in caught.value.message


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC], ids=errno.errorcode.get)
def test_a_disk_that_refuses_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(**_: object) -> str:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)  # root may write everywhere, so no mode does it
    with pytest.raises(EngineError) as caught:
        Scratch(tmp_path)
    assert caught.value.code == "scratch_failed"
    assert str(tmp_path) in caught.value.message
    assert os.strerror(code) in caught.value.message


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
def test_a_disk_that_fills_up_under_a_song_is_a_passing_fault_and_the_next_song_is_served(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        with pytest.raises(EngineError) as caught, scratch.song() as folder:
            fill_the_disk(folder)
        assert (caught.value.code, caught.value.retryable) == ("scratch_failed", True)
        assert os.strerror(errno.ENOSPC) in caught.value.message
        with scratch.song() as folder:
            (folder / "song").write_bytes(b"la la")


def test_a_folder_that_somebody_removed_is_a_passing_fault(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        for folder in folders(tmp_path):
            (folder / ".lock").unlink()
            folder.rmdir()
        with pytest.raises(EngineError) as caught, scratch.song():
            pass
    assert (caught.value.code, caught.value.retryable) == ("scratch_failed", True)


def test_other_errors_of_a_song_stay_what_they_are(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch, pytest.raises(EngineError) as caught, scratch.song():
        raise EngineError("no song", code="hash_mismatch")
    assert (caught.value.code, caught.value.retryable) == ("hash_mismatch", False)


def test_a_worker_without_scratch_space_ends_at_its_start_and_says_where(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    root = tmp_path / "file" / "scratch"
    environment = {
        **os.environ,
        **redis_login(redis_url, "worker"),
        "UNMIX_STORE_URL": f"file://{tmp_path}/store",
        "UNMIX_SCRATCH_DIR": str(root),
    }
    worker = subprocess.run(
        [sys.executable, "-m", "unmix_worker"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert worker.returncode == 1
    printed = worker.stdout + worker.stderr
    assert "scratch_failed" in printed
    assert str(root) in printed
    assert "Traceback" not in printed
