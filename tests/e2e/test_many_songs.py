"""Two hundred songs in nested folders, and a service that is restarted twice while it has them."""

import re
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from local_mode import LocalMode
from support import eventually, make_song
from unmix.names import hash_song

SONGS = 200
STEMS = ("bass", "drums", "other", "vocals")


def events(local: LocalMode, event: str) -> Counter[str]:
    """How often the workers of all runs have logged an event of each job."""
    logs = "".join(log.read_text() for log in (local.data_dir / "logs").glob("worker-*.log"))
    return Counter(re.findall(rf"event='{event}' job_id='(\w+)'", logs))


def there(out: Path, songs: int) -> bool:
    return len([*out.glob("*/*/*")]) >= songs


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_stems_of_two_hundred_songs_are_there_and_nothing_was_computed_twice(tmp_path: Path) -> None:
    local, music, out = LocalMode(tmp_path / "data"), tmp_path / "music", tmp_path / "out"
    jobs = set()
    for number in range(SONGS):
        song = music / f"artist {number % 7}" / f"album {number % 3}" / f"{number}.wav"
        song.parent.mkdir(parents=True, exist_ok=True)
        song.write_bytes(data := make_song(0.5, seed=number))
        jobs.add(hash_song(data))
    local.start()
    command = [sys.executable, "-m", "unmix.cli", "submit", str(music), "--wait", "-o", str(out), "--url", local.url]
    submitting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for done in (SONGS // 4, SONGS // 2):
            eventually(partial(there, out, done), f"{done} songs are there", patience_seconds=600)
            assert submitting.poll() is None
            assert local.stop() == 0
            local.start()
        _, errors = submitting.communicate()
    finally:
        submitting.kill()
        local.stop()
    assert submitting.returncode == 0, errors
    assert f"{SONGS} songs: {SONGS} done" in errors
    stems = [*out.glob("artist */album */*/*.mp3")]
    assert len(stems) == SONGS * len(STEMS)
    assert all(stem.stat().st_size for stem in stems)
    assert events(local, "job over") == Counter(jobs)
    assert events(local, "job started") - events(local, "job released") == Counter(jobs)
