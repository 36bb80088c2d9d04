"""Jobs at every stage, as the tests of the reconciler and of the open marks make them."""

from dataclasses import replace
from typing import Any

import pytest
import redis

from support import song_hash_number
from unmix import names
from unmix.janitor.reconciler import Reconciled, Reconciler
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.inventory import marked_job
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome, Ran, StemFile
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim
from unmix.store.file import FileStore

JOB = song_hash_number(1)
OPTIONS = SeparationOptions(model="demo")


@pytest.fixture
def reconciler(queue: JobQueue, ledger: Ledger) -> Reconciler:
    return Reconciler(queue, ledger)


def accept(store: FileStore, ledger: Ledger, job_id: str = JOB, **changes: Any) -> JobRequest:
    """Store a song and its request, and do not queue it."""
    store.put(names.song_object(names.song_hash_of(job_id)), b"song")
    accepted, _ = ledger.accept(replace(JobRequest(job_id, OPTIONS, utc_now()), **changes))
    return accepted


def submit(store: FileStore, queue: JobQueue, ledger: Ledger, job_id: str = JOB, **changes: Any) -> JobRequest:
    accepted = accept(store, ledger, job_id, **changes)
    queue.submit(job_id, accepted.generation, callbacks=len(accepted.callbacks))
    return accepted


def claim(queue: JobQueue) -> Claim:
    element = queue.take(block_seconds=1)
    assert element is not None
    claimed = queue.claim(element, element, "w1")
    assert claimed is not None
    return claimed


def commit(
    store: FileStore, ledger: Ledger, of: JobRequest, token: str = "t1", status: JobStatus = JobStatus.DONE
) -> Outcome:
    name = names.attempt_object(of.job_id, token, "vocals", "mp3")
    stems = {"vocals": StemFile(name.key, 5, "00")} if status is JobStatus.DONE else {}
    if stems:
        store.put(name, token.encode())
    ran = Ran("demo", "aa", "cpu", 44100, 1.0, 1.0) if stems else None
    return ledger.commit(Outcome(of.job_id, of.generation, status, utc_now(), token=token, stems=stems, ran=ran))


def flush(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()


def marked(ledger: Ledger) -> list[str]:
    return [marked_job(mark) for mark in ledger.inventory.open_marks()]


def two_passes(reconciler: Reconciler) -> Reconciled:
    assert reconciler.run() == Reconciled(), "something was done at first sight"
    return reconciler.run()
