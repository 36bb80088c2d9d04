"""Open marks on a real Redis server and a file store: who puts them, who takes them away, and who meets whom."""

from typing import Any

import pytest

from reconciling import JOB, accept, commit, marked, submit, two_passes
from unmix import names
from unmix.errors import StoreError
from unmix.janitor.reconciler import Reconciled, Reconciler
from unmix.job import Callback, JobRequest, JobStatus
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Delivery
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore


def test_a_job_that_needs_nothing_any_more_is_not_looked_at_again(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    ledger.publish(commit(store, ledger, accept(store, ledger)))
    assert marked(ledger) == [JOB]
    assert two_passes(reconciler) == Reconciled()
    assert marked(ledger) == []


def test_a_job_stays_open_until_its_callbacks_are_delivered(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    accepted = accept(store, ledger, callbacks=(Callback("http://a"),))
    ledger.publish(commit(store, ledger, accepted))
    for _ in range(3):
        reconciler.run()
    assert marked(ledger) == [JOB]
    ledger.note_delivery(JOB, accepted.generation, 0, Delivery(True, utc_now(), 1))
    reconciler.run()
    assert marked(ledger) == []


def test_a_delivery_that_is_asked_for_again_opens_its_job_again(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    accepted = accept(store, ledger, callbacks=(Callback("http://a"), Callback("http://b")))
    ledger.publish(commit(store, ledger, accepted))
    for index in (0, 1):
        ledger.note_delivery(JOB, accepted.generation, index, Delivery(True, utc_now(), 1))
    for _ in range(2):
        reconciler.run()
    assert marked(ledger) == []
    ledger.owe_delivery(JOB, accepted.generation, 1)
    assert marked(ledger) == [JOB]
    assert two_passes(reconciler).callbacks == 1
    assert queue.outbox.due(limit=9) == [(JOB, 1)]


def delivered(store: FileStore, ledger: Ledger) -> JobRequest:
    """Have a job that is over, whose one callback is delivered."""
    accepted = accept(store, ledger, callbacks=(Callback("http://a"),))
    ledger.publish(commit(store, ledger, accepted))
    ledger.note_delivery(JOB, accepted.generation, 0, Delivery(True, utc_now(), 1))
    return accepted


def test_a_delivery_that_is_asked_for_again_while_the_mark_ends_is_marked(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    """The janitor has seen that all callbacks are delivered, and sleeps while one of them is asked for again."""
    accepted = delivered(store, ledger)
    reconciler.run()
    take_away = ledger.open_marks.take_away

    def sleep(job_id: str) -> None:
        ledger.owe_delivery(JOB, accepted.generation, 0)
        take_away(job_id)

    monkeypatch.setattr(ledger.open_marks, "take_away", sleep)
    reconciler.run()
    assert marked(ledger) == [JOB]
    assert two_passes(Reconciler(queue, ledger)).callbacks == 1


def test_a_mark_that_ends_before_a_delivery_is_owed_again_is_put_again(
    queue: JobQueue, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    """Whoever asks for it sleeps between the mark and the outcome, and the janitor takes the mark away."""
    accepted = delivered(store, ledger)
    put = ledger.open_marks.put

    def put_in_vain(job_id: str, why: str) -> None:
        put(job_id, why)
        ledger.open_marks.take_away(job_id)
        monkeypatch.undo()

    monkeypatch.setattr(ledger.open_marks, "put", put_in_vain)
    ledger.owe_delivery(JOB, accepted.generation, 0)
    assert marked(ledger) == [JOB]


def test_whoever_dies_while_a_delivery_is_owed_again_leaves_the_mark(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    accepted = delivered(store, ledger)
    for _ in range(2):
        reconciler.run()

    def die(*_: object) -> None:
        raise StoreError("the store is away")

    monkeypatch.setattr(ledger.open_marks, "make_sure", die)
    with pytest.raises(StoreError):
        ledger.owe_delivery(JOB, accepted.generation, 0)
    assert two_passes(reconciler).callbacks == 1
    assert queue.outbox.due(limit=9) == [(JOB, 0)]


@pytest.mark.parametrize("wakes_before", ["take_away", "request"])
def test_a_submission_that_meets_the_end_of_a_mark_is_marked(
    queue: JobQueue,
    ledger: Ledger,
    reconciler: Reconciler,
    monkeypatch: pytest.MonkeyPatch,
    store: FileStore,
    wakes_before: str,
) -> None:
    """The janitor has seen that a failed job needs nothing, and sleeps while its song is sent again."""
    commit(store, ledger, accept(store, ledger), status=JobStatus.FAILED)
    reconciler.run()
    owner = ledger.open_marks if wakes_before == "take_away" else store
    method = "take_away" if wakes_before == "take_away" else "remove"
    original = getattr(owner, method)

    def sleep(what: Any) -> None:
        if wakes_before == "request":
            original(what)
        monkeypatch.undo()
        accept(store, ledger)
        if wakes_before == "take_away":
            original(what)

    monkeypatch.setattr(owner, method, sleep)
    reconciler.run()
    assert marked(ledger) == [JOB]
    assert two_passes(Reconciler(queue, ledger)).requeued == 1


def test_a_mark_without_a_job_goes(ledger: Ledger, reconciler: Reconciler, store: FileStore) -> None:
    """Whoever put it died before the request was written."""
    ledger.open_marks.put(JOB, "")
    store.put(names.ObjectName(names.QUEUE_BUCKET, "open/nonsense"), b"")
    assert two_passes(reconciler) == Reconciled()
    assert marked(ledger) == []


def test_an_open_job_that_has_lost_its_mark_is_marked_again(
    queue: JobQueue, ledger: Ledger, reconciler: Reconciler, store: FileStore
) -> None:
    submit(store, queue, ledger)
    ledger.open_marks.take_away(JOB)
    queue.take(block_seconds=1, fetch="blpop")  # by a consumer that dies
    two_passes(reconciler)
    assert two_passes(reconciler).requeued == 1
