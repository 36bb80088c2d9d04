"""What is left when a process dies or sleeps at a bad moment: single moments that the tests of a module do not meet.

The state machine tries their combinations (`test_queue_machine`), `tests/chaos` kills real processes.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from rest_support import SONG, Rest
from support import RedisServer, eventually
from unmix import names
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome, Ran, StemFile
from unmix.queue.job_queue import JobQueue, QueuePolicy
from unmix.queue.records import Claim, ModelCard
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix.store.file import FileStore
from unmix_worker.scratch import Scratch
from unmix_worker.worker import Worker

JOB = names.hash_song(b"song")
OPTIONS = SeparationOptions(model="demo")
POLICY = QueuePolicy(lease_seconds=0.2, grace_seconds=0.2, retry_seconds=0, max_attempts=2, max_crashes=2)


class Process:
    """Stands in for the separating process: it must not be asked to separate anything."""

    def __init__(self, shutdown: Shutdown) -> None:
        self._shutdown = shutdown

    def ensure_ready(self, shutdown: Shutdown) -> ModelCard:
        self._shutdown.request()  # once this round is over
        return ModelCard("demo", "ab" * 32, ("vocals",), 44_100)

    def separate(self, *_: object) -> Any:
        raise AssertionError("a song is separated that should not be")


@pytest.fixture
def policy() -> QueuePolicy:
    return POLICY


def submit(store: FileStore, queue: JobQueue, ledger: Ledger) -> JobRequest:
    store.put(names.song_object(JOB), b"song")
    accepted, _ = ledger.accept(JobRequest(JOB, OPTIONS, utc_now()))
    queue.submit(JOB, accepted.generation)
    return accepted


def claim(queue: JobQueue) -> Claim:
    element = queue.take(block_seconds=1)
    assert element is not None
    claimed = queue.claim(element, element, "worker-1")
    assert claimed is not None
    return claimed


def die_and_come_back(queue: JobQueue) -> None:
    """Sweep until the lease of a worker that died has put its job back."""
    eventually(lambda: queue.sweep().lapsed, "its lease has lapsed")


def serve_one(queue: JobQueue, store: FileStore, folder: Path) -> None:
    """Let a worker take what is next."""
    shutdown = Shutdown(grace_seconds=10)
    process: Any = Process(shutdown)
    settings = Settings(model="demo", take_seconds=1, max_attempts=2, max_crashes=2, max_lapses=2)
    with Scratch(folder / "scratch") as scratch:
        Worker(settings, queue, store, process, scratch, worker_id="worker-2").run(shutdown)


def done(store: FileStore, request: JobRequest, token: str, ledger: Ledger) -> Outcome:
    """Return the outcome of an attempt whose one stem says who made it; it is not committed yet."""
    name = names.attempt_object(JOB, token, "vocals", "mp3")
    store.put(name, token.encode())
    stems = {"vocals": StemFile(name.key, len(token), names.hash_song(token.encode()))}
    ran = Ran("demo", "ab" * 32, "cpu", 44_100, 1.0, 1.0)
    return Outcome(JOB, request.generation, JobStatus.DONE, utc_now(), token=token, stems=stems, ran=ran)


def test_a_worker_that_could_not_renew_while_redis_was_down_keeps_its_job(own_redis: RedisServer) -> None:
    policy = replace(POLICY, grace_seconds=60)  # longer than Redis takes to be there again, on however busy a machine
    with JobQueue(own_redis.url, policy=policy) as queue, redis.Redis.from_url(own_redis.url) as raw:
        queue.submit(JOB, "g1")
        mine = claim(queue)
        time.sleep(policy.lease_seconds + 0.1)
        raw.hset("unmix:marks", f"lease:{JOB}", 0)  # a sweep saw that, longer ago than the grace
        own_redis.kill()
        own_redis.start()
        assert queue.sweep().lapsed == 0
        queue.renew(mine, progress=0.5)
        assert queue.take(block_seconds=0.1) is None


@pytest.mark.parametrize(("cause", "code"), [("crashes", "poison"), ("failures", "gave_up"), ("lapses", "gave_up")])
def test_a_song_whose_tries_are_used_up_is_not_tried_once_more_because_a_worker_died_over_saying_so(
    queue: JobQueue, ledger: Ledger, tmp_path: Path, cause: str, code: str, store: FileStore
) -> None:
    request = submit(store, queue, ledger)
    for _ in range(2):
        if cause == "lapses":
            claim(queue)
        elif queue.fail(claim(queue), error_code="x", crashed=cause == "crashes"):
            queue.sweep()  # due at once
            continue
        die_and_come_back(queue)
    serve_one(queue, store, tmp_path)
    outcome = ledger.outcome(request)
    assert outcome is not None
    assert (outcome.status, outcome.error_code) == (JobStatus.FAILED, code)


def test_a_claimed_job_that_was_removed_does_not_come_back(
    queue: JobQueue, ledger: Ledger, tmp_path: Path, store: FileStore
) -> None:
    submit(store, queue, ledger)
    ledger.removal.remove_job(JOB)  # whoever did this died before Redis heard of it
    serve_one(queue, store, tmp_path)
    assert ledger.request(JOB) is None
    assert queue.views.record(JOB) is None
    assert queue.views.counts().open == 0


def test_a_worker_that_wakes_over_its_copies_leaves_those_of_a_later_submission(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    early, _ = ledger.accept(JobRequest(JOB, OPTIONS, utc_now()))
    early_outcome = ledger.commit(done(store, early, "early", ledger))
    copy = store.copy

    def submitted_anew_meanwhile(source: names.ObjectName, target: names.ObjectName) -> None:
        monkeypatch.undo()
        late, is_new = ledger.accept(JobRequest(JOB, replace(OPTIONS, weights_sha256="cd" * 32), utc_now()))
        assert is_new
        ledger.publish(ledger.commit(done(store, late, "late", ledger)))
        copy(source, target)

    monkeypatch.setattr(store, "copy", submitted_anew_meanwhile)
    ledger.publish(early_outcome)
    assert store.get(names.stem_object(JOB, "vocals", "mp3"))[0] == b"late"


def test_a_worker_that_wakes_over_its_copies_does_not_bring_a_removed_job_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    request, _ = ledger.accept(JobRequest(JOB, OPTIONS, utc_now()))
    outcome = ledger.commit(done(store, request, "t1", ledger))
    ledger.open_marks.take_away(JOB)
    copy = store.copy

    def removed_meanwhile(source: names.ObjectName, target: names.ObjectName) -> None:
        monkeypatch.undo()
        copy(source, target)
        store.remove(names.request_object(JOB))

    monkeypatch.setattr(store, "copy", removed_meanwhile)
    ledger.publish(outcome)
    assert store.stat(names.stem_object(JOB, "vocals", "mp3")) is None
    assert store.stat(names.open_mark(JOB)) is not None, "the reconciler does not look at what is left"


def test_where_a_store_cannot_say_who_was_first_redis_does(
    queue: JobQueue, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "conditional_puts", False)
    ledger = Ledger(store, guard=queue.guard)
    request, _ = ledger.accept(JobRequest(JOB, OPTIONS, utc_now()))
    put = store.put

    def overtaken(name: names.ObjectName, data: bytes) -> None:
        monkeypatch.setattr(store, "put", put)
        assert ledger.commit(done(store, request, "second", ledger)).token == "first"
        put(name, data)

    first = done(store, request, "first", ledger)
    monkeypatch.setattr(store, "put", overtaken)
    assert ledger.commit(first).token == "first"
    counts = ledger.outcome(request)
    assert counts is not None
    assert counts.token == "first"


def test_a_song_that_was_being_removed_as_it_was_sent_again_is_there(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    rest = Rest(tmp_path, redis_url)
    accept = Ledger.accept

    def removed_meanwhile(ledger: Ledger, request: JobRequest) -> tuple[JobRequest, bool]:
        store.remove(names.song_object(request.song_hash))
        return accept(ledger, request)

    monkeypatch.setattr(Ledger, "accept", removed_meanwhile)
    job_id = rest.post_json(SONG).json["hash"]
    assert rest.store.stat(names.song_object(job_id)) is not None
