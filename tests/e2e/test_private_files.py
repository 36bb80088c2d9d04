"""What local mode keeps is its owner's alone."""

from pathlib import Path

import requests

from local_mode import LocalMode
from support import make_song


def finished(local: LocalMode) -> str:
    """Have a song separated, and return how that ended."""
    job = requests.post(f"{local.url}/apiv1/jobs?wait=60", data=make_song(2, 1), timeout=90).json()
    return str(job["status"])


def test_nobody_else_reads_what_local_mode_keeps(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o755)  # as earlier versions made it
    local = LocalMode(data_dir)
    local.start()
    try:
        assert finished(local) == "done"
        open_to_others = {
            str(path.relative_to(tmp_path)): oct(path.stat().st_mode & 0o777)
            for path in (data_dir, *data_dir.rglob("*"))
            if not path.is_symlink() and path.stat().st_mode & 0o077
        }
        assert open_to_others == {}
    finally:
        assert local.stop() == 0
