"""The audit on a real Redis server and a file store: what it finds by the listings, and what it leaves alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import redis

from support import redis_login, song_hash_number
from unmix import names
from unmix.errors import StoreError
from unmix.janitor.audit import Audit, Audited, DueAudits
from unmix.janitor.reconciler import Reconciled, Reconciler
from unmix.janitor.retention import Retention
from unmix.job import Callback, JobRequest, JobStatus, SeparationOptions
from unmix.ledger.inventory import marked_job
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome, SongPart, StemFile
from unmix.queue import job_list
from unmix.queue.job_list import JobFilter
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore

JOB = song_hash_number(1)


@pytest.fixture
def audit(queue: JobQueue, ledger: Ledger) -> Audit:
    return Audit(queue, ledger, Retention(queue, ledger, songs_hours=0, stems_days=0, parts_hours=1))


def accept(store: FileStore, ledger: Ledger, job_id: str = JOB) -> JobRequest:
    store.put(names.song_object(names.song_hash_of(job_id)), b"song")
    return ledger.accept(JobRequest(job_id, SeparationOptions("demo"), utc_now()))[0]


def commit(store: FileStore, ledger: Ledger, of: JobRequest, status: JobStatus = JobStatus.DONE) -> Outcome:
    name = names.attempt_object(of.job_id, "t1", "vocals", "mp3")
    stems = {"vocals": StemFile(name.key, 2, "00")} if status is JobStatus.DONE else {}
    if stems:
        store.put(name, b"t1")
    peaks = ledger.put_peaks(of.job_id, "t1", b"{}") if stems else None
    return ledger.commit(Outcome(of.job_id, of.generation, status, utc_now(), token="t1", stems=stems, peaks=peaks))


def finish(store: FileStore, ledger: Ledger, job_id: str = JOB) -> None:
    """See a job through to the end, and take its mark away."""
    ledger.publish(commit(store, ledger, accept(store, ledger, job_id)))
    ledger.open_marks.take_away(job_id)


def audited(audit: Audit) -> Audited:
    """Audit, and return what it found but for the list of jobs, on which nobody here has put any."""
    return replace(audit.run(), listed=0)


def mend(queue: JobQueue, ledger: Ledger) -> Reconciled:
    reconciler = Reconciler(queue, ledger)
    reconciler.run()
    return reconciler.run()


@contextmanager
def documents_read(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[names.ObjectName]]:
    """Yield the names of the documents that are read in the block."""
    read = []
    get = store.get

    def watched(name: names.ObjectName) -> tuple[bytes, str]:
        read.append(name)
        return get(name)

    with monkeypatch.context() as patch:
        patch.setattr(store, "get", watched)
        yield read


def test_an_owed_job_without_a_mark_is_found_and_queued(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit
) -> None:
    """As an earlier version accepted it."""
    accept(store, ledger)
    ledger.open_marks.take_away(JOB)
    assert mend(queue, ledger) == Reconciled()
    assert audited(audit) == Audited(marked=1)
    assert mend(queue, ledger).requeued == 1


def test_of_a_finished_job_no_document_is_read(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        finish(store, ledger, song_hash_number(number))
    audit.run()
    with documents_read(store, monkeypatch) as read:
        assert audit.run() == Audited()
        mend(queue, ledger)
    assert read == []


def test_a_job_that_is_marked_already_is_left_to_the_reconciler(ledger: Ledger, store: FileStore, audit: Audit) -> None:
    accept(store, ledger)
    assert audited(audit) == Audited()


def test_stems_that_came_after_another_attempt_had_won_are_found_and_go(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit
) -> None:
    finish(store, ledger)
    late = names.attempt_object(JOB, "t2", "vocals", "mp3")
    store.put(late, b"late")
    assert audit.run().marked == 1
    assert mend(queue, ledger).orphans == 1
    assert store.stat(late) is None
    assert audited(audit) == Audited()


def late_part(store: FileStore, ledger: Ledger, of: JobRequest) -> names.ObjectName:
    """Store part 3 of a submission, as a worker does that slept over the end of the job."""
    name = names.part_object(names.part_folder(of.job_id, of.generation, "kind"), 3)
    ledger.parts(of, "kind").put(SongPart(3, 0, 1, {}, "w1", {}, {}), {}, token="late")
    assert store.stat(name)
    return name


def test_parts_of_an_earlier_submission_that_came_late_are_found_and_go(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit
) -> None:
    earlier = accept(store, ledger)
    ledger.removal.remove_job(JOB)
    finish(store, ledger)
    present = ledger.request(JOB)
    assert present
    kept, late = late_part(store, ledger, present), late_part(store, ledger, earlier)
    assert audit.run().marked == 1
    assert mend(queue, ledger).orphans == 1
    assert (store.stat(kept) is None, store.stat(late)) == (False, None)
    assert audited(audit) == Audited()


def test_parts_of_a_cancelled_job_that_came_late_are_found_and_go(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit
) -> None:
    request = accept(store, ledger)
    commit(store, ledger, request, JobStatus.CANCELLED)
    ledger.open_marks.take_away(JOB)
    late = late_part(store, ledger, request)
    assert audit.run().marked == 1
    assert mend(queue, ledger).orphans == 1
    assert store.stat(late) is None
    assert audited(audit) == Audited()


def test_an_outcome_that_was_committed_into_a_removal_is_found_and_goes(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit
) -> None:
    finish(store, ledger)
    store.remove(names.request_object(JOB))
    assert audit.run().marked == 1
    assert mend(queue, ledger).orphans == 4  # the outcome, the stem and its copy, the peaks
    assert list(store.list(names.OUTPUT_BUCKET)) == []


def test_copies_that_were_lost_are_made_again(queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit) -> None:
    finish(store, ledger)
    store.remove(names.stem_object(JOB, "vocals", "mp3"))
    assert audit.run().marked == 1
    assert mend(queue, ledger).published == 1


def test_a_stem_that_was_removed_is_no_reason_to_look(ledger: Ledger, store: FileStore, audit: Audit) -> None:
    finish(store, ledger)
    request, outcome = ledger.end(JOB)
    assert request
    assert outcome
    ledger.removal.remove_stem(request, outcome, "vocals")
    assert audited(audit) == Audited()


def test_a_submission_over_an_old_outcome_is_found_without_its_mark(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit
) -> None:
    commit(store, ledger, accept(store, ledger), JobStatus.FAILED)
    accept(store, ledger)
    ledger.open_marks.take_away(JOB)
    assert audit.run().marked == 1
    assert mend(queue, ledger).requeued == 1


def test_failed_jobs_are_listed_again_after_redis_lost_them(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit, redis_url: str
) -> None:
    commit(store, ledger, accept(store, ledger), JobStatus.FAILED)
    commit(store, ledger, accept(store, ledger, song_hash_number(2)), JobStatus.CANCELLED)
    mend(queue, ledger)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert audited(audit) == Audited(failures=1)
    assert queue.views.failed(limit=9) == ([JOB], 1)
    assert audited(audit) == Audited()


def test_stems_that_an_older_service_left_are_no_reason_to_look(ledger: Ledger, store: FileStore, audit: Audit) -> None:
    store.put(names.stem_object(JOB, "vocals", "mp3"), b"older than our documents")
    store.put(names.song_object(song_hash_number(7)), b"put by a foreign producer")
    store.put(names.ObjectName(names.OUTPUT_BUCKET, "notes.txt"), b"mine")
    assert audited(audit) == Audited()
    assert [marked_job(mark) for mark in ledger.inventory.open_marks()] == []


def test_a_store_that_was_restored_is_not_marked_again_and_again(
    ledger: Ledger, store: FileStore, audit: Audit, queue: JobQueue
) -> None:
    """A copy may be written in any order, so that every request looks newer than its outcome."""
    finish(store, ledger)
    data, _ = store.get(names.request_object(JOB))
    store.put(names.request_object(JOB), data)
    assert audited(audit) == Audited()


def test_a_callback_that_was_asked_for_after_the_end_is_found_without_its_mark(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit
) -> None:
    finish(store, ledger)
    known = ledger.request(JOB)
    assert known
    store.put(names.request_object(JOB), replace(known, callbacks=(Callback("http://a"),)).to_json())
    assert audited(audit) == Audited(marked=1)
    assert mend(queue, ledger).callbacks == 1


def test_unmix_audit_tells_what_it_found(ledger: Ledger, store: FileStore, redis_url: str) -> None:
    accept(store, ledger)
    ledger.open_marks.take_away(JOB)
    settings = {**redis_login(redis_url, "janitor"), "UNMIX_STORE_URL": f"file://{store.root}"}
    command = [sys.executable, "-m", "unmix.cli", "audit"]
    said = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
    told = ["marked: 1", "failures: 0", "retired: 0", "listed: 1", "unread: 0", "uploads: 0"]
    assert said.stdout.splitlines()[-len(told) :] == told


def test_one_song_that_the_store_refuses_does_not_keep_the_others_from_being_audited(
    ledger: Ledger, store: FileStore, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = sorted(song_hash_number(number) for number in range(3))
    for song_hash in hashes:
        accept(store, ledger, song_hash)
        ledger.open_marks.take_away(song_hash)
    put = store.put

    def refuse(name: names.ObjectName, data: bytes) -> None:
        if name == names.open_mark(hashes[0]):
            raise StoreError("not this one", code="store_denied", retryable=False)
        put(name, data)

    monkeypatch.setattr(store, "put", refuse)
    assert audited(audit) == Audited(marked=2, unread=1)


def listed(queue: JobQueue, status: JobStatus | None = None) -> list[str]:
    return [job.hash for job in queue.job_list.page(JobFilter(status=status), limit=9)[0]]


def test_the_list_of_jobs_is_made_again_after_redis_lost_it(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit
) -> None:
    finish(store, ledger)
    commit(store, ledger, accept(store, ledger, song_hash_number(2)), JobStatus.FAILED)
    accept(store, ledger, song_hash_number(3))
    assert not queue.job_list.is_whole
    assert audit.run().listed == 3
    assert sorted(listed(queue)) == sorted(song_hash_number(number) for number in (1, 2, 3))
    assert listed(queue, JobStatus.DONE) == [JOB]
    assert queue.job_list.is_whole
    assert audit.run() == Audited()


def test_the_list_of_jobs_comes_to_know_of_an_end_and_forgets_what_is_gone(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit
) -> None:
    request = accept(store, ledger)
    queue.job_list.note(request)
    queue.job_list.note(replace(request, job_id=song_hash_number(2)))  # the store has never had it
    commit(store, ledger, request)
    assert audit.run().listed == 2
    assert listed(queue) == listed(queue, JobStatus.DONE) == [JOB]


def test_jobs_that_have_no_room_on_the_list_are_not_read_again_and_again(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "MOST_JOBS", 1)
    finish(store, ledger)
    path = next(store.root.rglob(f"{JOB}.json"))
    os.utime(path, (1e9, 1e9))
    queue.job_list.note(JobRequest(song_hash_number(3), SeparationOptions("demo"), "2026-01-01T00:00:00+00:00"))
    finish(store, ledger, song_hash_number(2))
    audit.run()
    with documents_read(store, monkeypatch) as read:
        assert audit.run().listed == 0
    assert read == []
    assert listed(queue) == [song_hash_number(2)]


def test_an_audit_is_due_at_the_start_after_the_pause_and_when_redis_has_lost_the_list(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit, redis_url: str
) -> None:
    finish(store, ledger)
    audits = DueAudits(audit, queue.job_list, pause_seconds=3600)
    assert audits.run().listed == 1
    queue.job_list.drop(JOB)
    assert audits.run().listed == 0
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    assert audits.run().listed == 1
    assert DueAudits(audit, queue.job_list, pause_seconds=0).run() == Audited()


def test_an_audit_during_which_redis_loses_everything_is_made_again(
    queue: JobQueue, ledger: Ledger, store: FileStore, audit: Audit, redis_url: str
) -> None:
    job_ids = {song_hash_number(number) for number in range(2)}
    for job_id in job_ids:
        commit(store, ledger, accept(store, ledger, job_id))
    audits = DueAudits(audit, queue.job_list, pause_seconds=3600)

    def lose_what_is_listed() -> None:
        if listed(queue):
            with redis.Redis.from_url(redis_url) as client:
                client.flushall()

    audits.run(lose_what_is_listed)
    audits.run()
    assert set(listed(queue)) == job_ids
    assert queue.job_list.is_whole
