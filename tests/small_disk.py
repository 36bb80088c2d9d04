"""A disk of a few megabytes that a test can fill, where it may mount one."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount disks of so many MiB in memory."""
    mounted: list[Path] = []

    def mount(size_mb: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0700", "tmpfs", str(folder)]
        try:
            run = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no mount here")
        if run.returncode:
            pytest.skip(f"this user may mount nothing: {run.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(folder: Path, *, leave_bytes: int = 0) -> Path:
    """Write a file that leaves so much of the folder's disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while (left := free_bytes(folder) - leave_bytes) > 0:
            if file.write(bytes(min(left, 1 << 20))) == 0:
                break
    return ballast
