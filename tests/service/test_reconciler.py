"""The reconciler on a real Redis server and a real file store: what Redis lost comes back, and nothing else happens."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from reconciling import JOB, accept, claim, commit, flush, submit, two_passes
from support import song_hash_number
from unmix import names
from unmix.errors import StoreError
from unmix.janitor.reconciler import Reconciled, Reconciler
from unmix.job import Callback, JobStatus
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Delivery, Outcome
from unmix.queue.job_list import JobFilter
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore


def test_what_redis_lost_is_queued_again_in_the_order_of_submission(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, redis_url: str, store: FileStore
) -> None:
    job_ids = [song_hash_number(number) for number in range(20)]
    for number, job_id in enumerate(job_ids):
        submit(store, queue, ledger, job_id, submitted_at=f"2026-01-01T00:00:{number:02}.000+00:00")
    flush(redis_url)
    assert two_passes(reconciler).requeued == 20
    assert queue.views.waiting(limit=100) == (job_ids, 20)
    assert queue.views.counts().open == 20


def test_what_is_in_any_key_is_left_alone(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    waiting, taken, leased, delayed = (song_hash_number(number) for number in range(4))
    for job_id in (leased, delayed, taken, waiting):
        submit(store, queue, ledger, job_id)
    running = claim(queue)
    queue.fail(claim(queue), error_code="store_unavailable")
    assert queue.take(block_seconds=1) == taken
    for _ in range(3):
        assert reconciler.run() == Reconciled()
    assert queue.views.waiting(limit=9) == ([waiting], 1)
    queue.renew(running, progress=0.5)


def test_a_job_on_its_way_into_the_queue_is_queued_once(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    accepted = accept(store, ledger)
    reconciler.run()
    queue.submit(JOB, accepted.generation)
    assert reconciler.run() == Reconciled()
    assert queue.views.waiting(limit=9) == ([JOB], 1)


def test_a_job_that_came_into_the_queue_since_the_snapshot_is_not_queued_twice(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    accepted = accept(store, ledger)
    before = queue.views.snapshot()
    monkeypatch.setattr(queue.views, "snapshot", lambda: before)
    reconciler.run()
    queue.submit(JOB, accepted.generation)
    assert reconciler.run() == Reconciled()
    assert queue.views.waiting(limit=9) == ([JOB], 1)


def test_a_job_popped_by_a_consumer_that_died_is_queued_again(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    submit(store, queue, ledger)
    assert queue.take(block_seconds=1, fetch="blpop") == JOB
    assert two_passes(reconciler).requeued == 1
    assert queue.views.waiting(limit=9) == ([JOB], 1)


def test_what_a_job_has_cost_survives_being_queued_again(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, redis_url: str, store: FileStore
) -> None:
    submit(store, queue, ledger)
    queue.fail(claim(queue), error_code="engine_crashed", crashed=True)
    with redis.Redis.from_url(redis_url) as client:
        client.delete("unmix:delayed")
    assert two_passes(reconciler).requeued == 1
    assert claim(queue).crashes == 1


def test_a_job_that_is_over_in_redis_and_owed_in_the_store_is_done_again(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    """The store was set back to an earlier state: it is what counts."""
    accepted = submit(store, queue, ledger)
    claimed = claim(queue)
    commit(store, ledger, accepted, claimed.token)
    queue.finish(claimed, JobStatus.DONE, error_code=None, callbacks=0)
    store.remove(names.outcome_object(JOB))
    assert two_passes(reconciler).requeued == 1
    assert claim(queue).job_id == JOB


def test_a_job_with_an_outcome_leaves_the_queue(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    accepted = submit(store, queue, ledger, callbacks=(Callback("http://a"),))
    commit(store, ledger, accepted, status=JobStatus.CANCELLED)
    assert two_passes(reconciler).settled == 1
    assert queue.views.counts().open == 0
    assert queue.views.waiting(limit=9) == ([], 0)
    record = queue.views.record(JOB)
    assert record is not None
    assert record.status is JobStatus.CANCELLED
    assert queue.outbox.due(limit=9) == [(JOB, 0)]


def test_an_outcome_of_an_earlier_submission_settles_nothing(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    commit(store, ledger, submit(store, queue, ledger), status=JobStatus.FAILED)
    submit(store, queue, ledger)
    for _ in range(3):
        assert reconciler.run() == Reconciled()
    assert queue.views.waiting(limit=9) == ([JOB], 1)


def test_callbacks_that_redis_lost_become_due_again_unless_they_were_delivered(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    accepted = accept(store, ledger, callbacks=(Callback("http://a"), Callback("http://b")))
    ledger.publish(commit(store, ledger, accepted))
    ledger.note_delivery(JOB, accepted.generation, 0, Delivery(True, utc_now(), 1))
    assert two_passes(reconciler).callbacks == 1
    assert queue.outbox.due(limit=9) == [(JOB, 1)]


def test_copies_that_nobody_made_are_made(ledger: Ledger, reconciler: Reconciler, store: FileStore) -> None:
    commit(store, ledger, accept(store, ledger), "t1")
    assert two_passes(reconciler).published == 1
    assert store.get(names.stem_object(JOB, "vocals", "mp3"))[0] == b"t1"


def test_a_stem_that_was_removed_stays_removed(ledger: Ledger, reconciler: Reconciler, store: FileStore) -> None:
    accepted = accept(store, ledger)
    done = commit(store, ledger, accepted)
    ledger.publish(done)
    ledger.removal.remove_stem(accepted, done, "vocals")
    for _ in range(3):
        assert reconciler.run() == Reconciled()
    assert store.stat(names.stem_object(JOB, "vocals", "mp3")) is None


def test_the_files_of_an_attempt_that_lost_go_and_those_of_the_winner_stay(
    ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    ledger.publish(commit(store, ledger, accept(store, ledger), "t1"))
    late = names.attempt_object(JOB, "t2", "vocals", "mp3")
    store.put(late, b"late")
    assert two_passes(reconciler) == Reconciled(orphans=1)
    assert store.stat(late) is None
    assert store.stat(names.attempt_object(JOB, "t1", "vocals", "mp3"))


def test_the_files_of_attempts_that_may_still_win_stay(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    """Also beside an outcome of an earlier submission."""
    commit(store, ledger, submit(store, queue, ledger), status=JobStatus.FAILED)
    submit(store, queue, ledger)
    running = names.attempt_object(JOB, "t2", "vocals", "mp3")
    store.put(running, b"running")
    for _ in range(3):
        assert reconciler.run() == Reconciled()
    assert store.stat(running)


def test_an_attempt_of_a_submission_that_came_during_the_walk_keeps_its_files(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    """Between the listing and the look at the documents a failed job is posted again, and its attempt is quick."""
    failed = submit(store, queue, ledger)
    commit(store, ledger, failed, "t1", status=JobStatus.FAILED)
    queue.settle(JOB, failed.generation, JobStatus.FAILED, error_code="x", callbacks=0)
    reconciler.run()
    running = names.attempt_object(JOB, "t2", "vocals", "mp3")
    listing = store.list

    def posted_again_meanwhile(bucket: str, prefix: str = "") -> Iterator[object]:
        if bucket == names.OUTPUT_BUCKET:
            monkeypatch.undo()
            submit(store, queue, ledger)
            store.put(running, b"running")
        return iter(list(listing(bucket, prefix)))

    monkeypatch.setattr(store, "list", posted_again_meanwhile)
    reconciler.run()
    assert store.stat(running)


def test_the_files_of_a_job_that_was_removed_go(ledger: Ledger, reconciler: Reconciler, store: FileStore) -> None:
    accept(store, ledger)
    ledger.removal.remove_job(JOB)
    late = names.attempt_object(JOB, "t2", "vocals", "mp3")
    store.put(late, b"late")
    assert two_passes(reconciler) == Reconciled(orphans=1)
    assert store.stat(late) is None


def test_what_a_worker_committed_into_a_removal_goes(ledger: Ledger, reconciler: Reconciler, store: FileStore) -> None:
    """It read the request, slept while the job was removed, and woke."""
    outcome = commit(store, ledger, accept(store, ledger), "t1")
    ledger.publish(outcome)
    store.remove(names.request_object(JOB))
    assert two_passes(reconciler) == Reconciled(orphans=3)
    assert list(store.list(names.OUTPUT_BUCKET)) == []


def test_stems_that_an_older_service_left_stay(ledger: Ledger, reconciler: Reconciler, store: FileStore) -> None:
    theirs = names.stem_object(JOB, "vocals", "mp3")
    store.put(theirs, b"older than our documents")
    ledger.open_marks.put(JOB, "somebody began to send the song")
    for _ in range(3):
        assert reconciler.run() == Reconciled()
    assert store.stat(theirs)


def test_a_song_among_the_stems_is_none_that_was_set_aside(
    ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    theirs = names.ObjectName(names.OUTPUT_BUCKET, names.song_object(JOB).key)
    store.put(theirs, b"put there by somebody")
    assert two_passes(reconciler) == Reconciled()
    assert store.stat(theirs)


def test_a_job_that_only_redis_knows_as_open_is_forgotten(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    submit(store, queue, ledger)
    queue.take(block_seconds=1, fetch="blpop")
    ledger.removal.remove_job(JOB)
    assert two_passes(reconciler).forgotten == 1
    assert queue.views.counts().open == 0


def test_failed_jobs_are_listed_again_after_redis_lost_them(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    commit(store, ledger, accept(store, ledger), status=JobStatus.FAILED)
    two_passes(reconciler)
    assert queue.views.failed(limit=9) == ([JOB], 1)


def test_one_damaged_document_does_not_keep_the_others_from_being_served(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    accept(store, ledger, song_hash_number(2))
    damaged = accept(store, ledger, song_hash_number(3))
    store.put(names.request_object(damaged.job_id), b"{")
    accept(store, ledger, song_hash_number(4))
    assert two_passes(reconciler).requeued == 3, "a worker tells that the damaged one has failed"


def test_an_object_that_the_store_refuses_does_not_keep_the_other_jobs_from_being_served(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    for number in range(3):
        accept(store, ledger, song_hash_number(number))
    get = store.get

    def refuse(name: names.ObjectName) -> tuple[bytes, str]:
        if name == names.request_object(song_hash_number(1)):
            raise StoreError("not this one", code="store_denied", retryable=False)
        return get(name)

    monkeypatch.setattr(store, "get", refuse)
    assert two_passes(reconciler) == Reconciled(requeued=2, unmended=1)


def test_a_damaged_document_is_named_for_the_metrics(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    commit(store, ledger, accept(store, ledger), status=JobStatus.FAILED)
    store.put(names.outcome_object(JOB), b"\x00\xff")
    two_passes(reconciler)
    assert queue.views.counts().damaged == 1


def test_of_a_job_whose_outcome_cannot_be_read_no_file_is_removed(
    ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    """A later version may have written it, or a backup may bring it back."""
    ledger.publish(commit(store, ledger, accept(store, ledger)))
    before = {info.name for info in store.list(names.OUTPUT_BUCKET)}
    store.put(names.outcome_object(JOB), b'{"status": "archived"}')
    assert two_passes(reconciler) == Reconciled()
    assert {info.name for info in store.list(names.OUTPUT_BUCKET)} == before


def test_the_stems_of_an_attempt_that_failed_in_the_end_go(
    ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    accepted = accept(store, ledger)
    stem = names.attempt_object(JOB, "t1", "vocals", "mp3")
    store.put(stem, b"the store was full after this one")
    commit(store, ledger, accepted, "t1", status=JobStatus.FAILED)
    assert two_passes(reconciler) == Reconciled(orphans=1)
    assert store.stat(stem) is None


def test_what_breaks_over_one_job_does_not_keep_the_others_from_being_served(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    for number in range(3):
        accept(store, ledger, song_hash_number(number))
    requeue = queue.requeue

    def break_over_one(job_id: str, *args: Any, **kwargs: Any) -> bool:
        if job_id == song_hash_number(1):
            raise KeyError("nobody foresaw this")
        return requeue(job_id, *args, **kwargs)

    monkeypatch.setattr(queue, "requeue", break_over_one)
    assert two_passes(reconciler) == Reconciled(requeued=2, unmended=1)


def test_what_is_not_ours_in_the_buckets_stays(ledger: Ledger, reconciler: Reconciler, store: FileStore) -> None:
    foreign = names.ObjectName(names.OUTPUT_BUCKET, "notes.txt")
    store.put(foreign, b"mine")
    store.put(names.stem_object(JOB, "vocals", "mp3"), b"of an older service")
    store.put(names.song_object(song_hash_number(7)), b"put by a foreign producer")
    for _ in range(3):
        assert reconciler.run() == Reconciled()
    assert len(list(store.list(names.OUTPUT_BUCKET))) == 2
    assert len(list(store.list(names.QUEUE_BUCKET))) == 1


def test_the_list_of_jobs_learns_of_what_a_pass_mends(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    """Whoever wrote the documents died before it could tell."""
    over, owed, gone = (song_hash_number(number) for number in (2, 3, 4))
    commit(store, ledger, accept(store, ledger, over))
    accept(store, ledger, owed)
    queue.job_list.note(accept(store, ledger, gone))
    ledger.removal.remove_job(gone)
    two_passes(reconciler)
    assert {job.hash: job.status for job in queue.job_list.page(JobFilter(), limit=9)[0]} == {
        over: JobStatus.DONE,
        owed: JobStatus.QUEUED,
    }


def test_the_list_of_jobs_ends_with_the_truth_whatever_the_clocks_say(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    """The clock of whoever submitted the job the first time was fast."""
    request = accept(store, ledger)
    early = replace(request, generation="early", submitted_at="2099-01-01T00:00:00.000+00:00")
    commit(store, ledger, request)
    queue.job_list.note(early, Outcome(JOB, "early", JobStatus.FAILED, utc_now()))
    queue.job_list.note(request)
    two_passes(reconciler)
    (job,), _ = queue.job_list.page(JobFilter(), limit=9)
    assert (job.status, job.submitted_at) == (JobStatus.DONE, request.submitted_at)


def test_a_damaged_job_is_listed_as_what_it_is(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    accept(store, ledger)
    store.put(names.request_object(JOB), b"{")
    store.put(names.outcome_object(JOB), b"{")
    two_passes(reconciler)
    (job,), _ = queue.job_list.page(JobFilter(), limit=9)
    assert (job.hash, job.status, job.error_code, job.submitted_at) == (JOB, JobStatus.FAILED, "bad_document", None)
