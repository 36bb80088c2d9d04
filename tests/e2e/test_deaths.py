"""Songs that something dies, hangs or freezes over: processes are killed for real, in the middle of a song.

All are slow: they have their like in `chaos/`, with a stand-in for the separation, and test_parts.py has the death of a
worker over a real one.
"""

import os
import signal
from collections.abc import Callable

import pytest

from stack import Stack
from support import RedisServer, is_alive, make_song
from unmix.names import hash_song

MakeStack = Callable[..., Stack]
STEMS = {"vocals", "drums", "bass", "other"}


@pytest.mark.slow
def test_a_song_survives_the_kill_of_the_separating_process(service: Stack) -> None:
    worker, child, job_id = service.half_way(make_song(30, seed=1))
    os.kill(child, signal.SIGKILL)
    assert service.wait_until_over(job_id)["status"] == "done"
    assert service.outcome(job_id)["attempt"] == 2
    assert worker.poll() is None


@pytest.mark.slow
def test_a_song_survives_the_kill_of_its_worker_and_gives_the_same_bytes_as_undisturbed(service: Stack) -> None:
    song = make_song(60, seed=2)
    worker, child, job_id = service.half_way(song)
    worker.kill()
    worker.wait()
    service.wait_for(lambda: not is_alive(child), "no separating process is left behind")
    service.start_worker()
    service.wait_until_over(job_id)
    disturbed = {stem: service.stem(job_id, stem) for stem in STEMS}
    service.remove(job_id)
    assert service.post(song, format="flac") == job_id
    service.wait_until_over(job_id)
    assert {stem: service.stem(job_id, stem) for stem in STEMS} == disturbed


@pytest.mark.slow
def test_a_separating_process_that_hangs_is_killed_and_the_song_tried_again(make_stack: MakeStack) -> None:
    stack = make_stack(UNMIX_STALL_SECONDS="3")
    _, child, job_id = stack.start_half_way(make_song(60, seed=1))
    os.kill(child, signal.SIGSTOP)
    assert stack.wait_until_over(job_id)["status"] == "done"
    assert stack.outcome(job_id)["attempt"] == 2


@pytest.mark.slow
def test_a_frozen_worker_that_wakes_after_its_lease_changes_nothing(make_stack: MakeStack) -> None:
    stack = make_stack()
    worker, child, job_id = stack.start_half_way(make_song(60, seed=1))
    for pid in (worker.pid, child):
        os.kill(pid, signal.SIGSTOP)
    stack.start_worker()
    assert stack.wait_until_over(job_id)["status"] == "done"
    outcome = stack.outcome(job_id)
    for pid in (worker.pid, child):
        os.kill(pid, signal.SIGCONT)
    stack.wait_for(lambda: any(":job lost" in line for line in stack.queue.log_list.peek()), "the first worker noticed")
    assert stack.outcome(job_id) == outcome
    for stem, file in outcome["stems"].items():
        assert hash_song(stack.stem(job_id, stem)) == file["sha256"]


@pytest.mark.slow
def test_a_song_survives_the_kill_of_redis(make_stack: MakeStack, own_redis: RedisServer) -> None:
    stack = make_stack(UNMIX_REDIS_URL=own_redis.url).start()
    job_id, waiting = stack.post(make_song(24, seed=1)), stack.post(make_song(4, seed=2))
    stack.wait_until_half_way(job_id)
    own_redis.kill()
    own_redis.start()
    assert stack.wait_until_over(job_id)["status"] == "done"
    assert stack.wait_until_over(waiting)["status"] == "done"


@pytest.mark.slow
def test_a_song_that_kills_every_separating_process_is_poison_and_its_neighbour_is_served(
    make_stack: MakeStack,
) -> None:
    stack = make_stack(UNMIX_MAX_CRASHES="2").start(workers=0)
    worker = stack.start_worker()
    poison, neighbour = stack.post(make_song(60, seed=1)), stack.post(make_song(4, seed=2))
    for _ in range(2):
        stack.wait_until_half_way(poison)
        child = stack.child_of(worker)
        assert child is not None
        os.kill(child, signal.SIGKILL)
        stack.wait_for(lambda: stack.job(poison)["status"] != "running", "the crash was noticed")
    job = stack.wait_until_over(poison)
    assert (job["status"], job["error_code"]) == ("failed", "poison")
    assert "memory runs out" in job["error"], "which is why the system mostly does it"
    assert stack.wait_until_over(neighbour)["status"] == "done"


@pytest.mark.slow
def test_sigterm_in_the_middle_of_a_song_gives_it_back_uncharged(make_stack: MakeStack) -> None:
    stack = make_stack(UNMIX_SHUTDOWN_SECONDS="10")
    worker, _, job_id = stack.start_half_way(make_song(60, seed=1))
    worker.terminate()
    assert worker.wait(timeout=30) == 0
    assert stack.job(job_id)["status"] == "queued"
    assert stack.job(job_id)["position"] == 1
    stack.start_worker()
    assert stack.wait_until_over(job_id)["status"] == "done"
    assert stack.outcome(job_id)["attempt"] == 1


@pytest.mark.slow
def test_sigterm_with_time_left_lets_the_song_be_finished(service: Stack) -> None:
    worker, _, job_id = service.half_way(make_song(60, seed=3))
    worker.terminate()
    assert worker.wait(timeout=50) == 0
    assert service.job(job_id)["status"] == "done"
    assert service.outcome(job_id)["attempt"] == 1


@pytest.mark.slow
def test_a_song_many_leases_long_is_separated_once(make_stack: MakeStack) -> None:
    stack = make_stack(UNMIX_LEASE_SECONDS="1.5", UNMIX_RENEW_SECONDS="0.2", UNMIX_GRACE_SECONDS="1")
    stack.start(workers=2)
    job_id = stack.post(make_song(40, seed=1))
    assert stack.wait_until_over(job_id)["status"] == "done"
    assert stack.outcome(job_id)["attempt"] == 1
    assert stack.started_jobs() == [job_id]
