"""The files by which a liveness probe tells who is alive: touched while all goes on, Redis there or not, and only then.

No age is looked at: a file is removed, and who is alive makes it again.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from stack import Stack
from support import RedisServer, make_song

MakeStack = Callable[..., Stack]
#: Many times as long as any pause between two beats here.
SILENCE_SECONDS = 2


def test_who_is_alive_says_so_with_and_without_redis_and_who_hangs_does_not(
    make_stack: MakeStack, own_redis: RedisServer, tmp_path: Path
) -> None:
    of_worker, of_janitor = tmp_path / "worker-heartbeat", tmp_path / "janitor-heartbeat"
    stack = make_stack(
        UNMIX_REDIS_URL=own_redis.url,
        UNMIX_WORKER_HEARTBEAT=str(of_worker),
        UNMIX_JANITOR_HEARTBEAT=str(of_janitor),
    )

    def both_are_alive(when: str) -> None:
        for heartbeat in (of_worker, of_janitor):
            heartbeat.unlink(missing_ok=True)
        stack.wait_for(lambda: of_worker.exists() and of_janitor.exists(), f"both are alive {when}")

    worker, child, job_id = stack.start_half_way(make_song(15, seed=1))
    both_are_alive("in the middle of a song")
    os.kill(child, signal.SIGSTOP)
    try:
        time.sleep(SILENCE_SECONDS)  # the last that the child said has been read
        of_worker.unlink()
        time.sleep(SILENCE_SECONDS)
        assert not of_worker.exists(), "the separating process hangs"
        assert stack.job(job_id)["status"] == "running", "the worker itself lives, and keeps its lease"
    finally:
        os.kill(child, signal.SIGCONT)
    assert stack.wait_until_over(job_id)["status"] == "done"
    own_redis.kill()
    both_are_alive("without Redis")
    own_redis.start()
    both_are_alive("with Redis again")
    assert worker.poll() is None
