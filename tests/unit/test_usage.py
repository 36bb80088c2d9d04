"""`unmix status`: what takes how much room."""

import subprocess
import sys
from pathlib import Path

from rest_support import SONG, Rest
from unmix.janitor.usage import Amount, usage
from unmix.settings import Settings


def settings(rest: Rest, folder: Path, redis_url: str) -> Settings:
    return Settings(redis_url=redis_url, store_url=f"file://{folder / 'store'}")


def test_what_is_stored_is_told_by_kind(rest: Rest, tmp_path: Path, redis_url: str) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    rest.finish(job_id, {"vocals": b"x" * 500, "drums": b"y" * 300})
    rest.client.post("/apiv1/uploads")
    told = usage(settings(rest, tmp_path, redis_url))
    assert told.kinds["songs"] == Amount(1, len(SONG))
    assert told.kinds["stems"] == told.kinds["copies"] == Amount(2, 800)
    assert (told.kinds["documents"].objects, told.kinds["uploads"].objects) == (2, 1)
    assert told.total.objects == sum(1 for bucket in ("queue", "output") for _ in rest.store.list(bucket))
    sizes = [info.size_bytes for bucket in ("queue", "output") for info in rest.store.list(bucket)]
    assert told.total.size_bytes == sum(sizes) - 800, "copies are links"
    assert told.counts is not None
    assert told.counts.open == 0
    assert told.memory is not None
    assert 0 < told.memory.used < told.memory.most
    assert told.free_bytes is not None
    assert told.reserve_bytes is not None
    assert 0 < told.reserve_bytes <= 10**9


def test_the_command_prints_it_also_where_redis_is_away(rest: Rest, tmp_path: Path, unused_port: int) -> None:
    rest.post_form(SONG)
    environment = {
        "UNMIX_STORE_URL": f"file://{tmp_path / 'store'}",
        "UNMIX_REDIS_URL": f"redis://127.0.0.1:{unused_port}/0",
        "UNMIX_KEEP_SONGS_HOURS": "168",
        "PYTHONPATH": ":".join(sys.path),
    }
    command = [sys.executable, "-m", "unmix.cli", "status"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "songs                1    352.8 kB" in run.stdout
    assert "Redis: away" in run.stdout
    assert "songs go 168 hours after their last job; stems stay until they are removed" in run.stdout
    assert "are kept free of songs" in run.stdout
