"""The ledger on a real file store: what is owed, what is over, and that the first commit wins."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from unmix import names
from unmix.errors import InputError, StoreError, SupersededError
from unmix.job import Callback, JobRequest, JobStatus, Outcome, Ran, SeparationOptions, StemFile
from unmix.ledger.ledger import Ledger
from unmix.store.file import FileStore

JOB = names.hash_song(b"a song")
OPTIONS = SeparationOptions(model="demo", weights_sha256="aa")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    store = FileStore(tmp_path)
    store.prepare()
    return Ledger(store)


def request(**changes: object) -> JobRequest:
    return replace(JobRequest(JOB, OPTIONS, "now"), **changes)


def outcome(of: JobRequest, token: str = "t1", status: JobStatus = JobStatus.DONE) -> Outcome:
    stems = {"vocals": StemFile(names.attempt_object(JOB, token, "vocals", "mp3").key, 1, "00")}
    ran = Ran("demo", "aa", "cpu", 44100, 1.0, 1.0)
    done = status is JobStatus.DONE
    return Outcome(
        JOB, of.generation, status, "now", token=token, stems=stems if done else {}, ran=ran if done else None
    )


def done(ledger: Ledger, token: str = "t1") -> JobRequest:
    accepted, _ = ledger.accept(request())
    ledger.store.put(names.attempt_object(JOB, token, "vocals", "mp3"), b"x")
    ledger.commit(outcome(accepted, token))
    return accepted


def test_a_request_without_an_outcome_is_owed(ledger: Ledger) -> None:
    accepted, new = ledger.accept(request())
    assert new
    assert ledger.request(JOB) == accepted
    assert ledger.outcome(accepted) is None


def test_the_first_commit_wins_and_a_later_one_adopts_it(ledger: Ledger) -> None:
    accepted, _ = ledger.accept(request())
    first = ledger.commit(outcome(accepted, "t1"))
    assert ledger.commit(outcome(accepted, "t2")) == first
    assert ledger.outcome(accepted) == first


def test_of_many_commits_at_once_exactly_one_counts(ledger: Ledger) -> None:
    accepted, _ = ledger.accept(request())
    barrier = threading.Barrier(8)
    results: list[Outcome] = []

    def commit(number: int) -> None:
        barrier.wait()
        results.append(ledger.commit(outcome(accepted, f"t{number}")))

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert {result.token for result in results} == {ledger.outcome(accepted).token}


def test_an_outcome_of_an_earlier_submission_counts_as_none_and_is_replaced(ledger: Ledger) -> None:
    failed, _ = ledger.accept(request())
    ledger.commit(outcome(failed, "t1", JobStatus.FAILED))
    again, new = ledger.accept(request())
    assert new
    assert ledger.outcome(again) is None
    ledger.commit(outcome(again, "t2"))
    assert ledger.outcome(again).token == "t2"


def test_a_late_commit_of_an_earlier_submission_is_refused(ledger: Ledger) -> None:
    failed, _ = ledger.accept(request())
    ledger.commit(outcome(failed, "t1", JobStatus.FAILED))
    again, _ = ledger.accept(request())
    with pytest.raises(SupersededError):
        ledger.commit(outcome(failed, "t3"))
    assert ledger.outcome(again) is None


def test_a_commit_that_slept_through_a_resubmission_does_not_end_it(ledger: Ledger, monkeypatch) -> None:
    """Frozen between its look and its put: the swap meets another object and the token of the old one is refused."""
    old, _ = ledger.accept(request())
    put_if = ledger.store.put_if

    def resubmitted_meanwhile(name: names.ObjectName, data: bytes, *, etag: str | None) -> None:
        monkeypatch.undo()
        ledger.remove_job(JOB)
        again, _ = ledger.accept(request())
        ledger.commit(outcome(again, "new"))
        put_if(name, data, etag=etag)

    monkeypatch.setattr(ledger.store, "put_if", resubmitted_meanwhile)
    with pytest.raises(SupersededError):
        ledger.commit(outcome(old, "old"))
    assert ledger.outcome(ledger.request(JOB)).token == "new"


def test_a_removed_job_cannot_be_committed(ledger: Ledger) -> None:
    accepted, _ = ledger.accept(request())
    ledger.remove_job(JOB)
    with pytest.raises(SupersededError):
        ledger.commit(outcome(accepted))


def test_the_same_song_and_options_join_what_is_owed_or_done(ledger: Ledger) -> None:
    owed, _ = ledger.accept(request())
    joined, new = ledger.accept(request())
    assert (joined.generation, new) == (owed.generation, False)
    finished = done(ledger)
    assert ledger.accept(request()) == (finished, False)


def test_other_weights_do_not_join(ledger: Ledger) -> None:
    done(ledger)
    assert ledger.accept(request(options=replace(OPTIONS, weights_sha256="bb")))[1]


def test_another_model_under_the_same_id_does_not_join(ledger: Ledger) -> None:
    done(ledger)
    assert ledger.accept(request(options=SeparationOptions(model="htdemucs")))[1]


def test_a_done_job_whose_stem_is_gone_does_not_join(ledger: Ledger) -> None:
    finished = done(ledger)
    ended = ledger.outcome(finished)
    assert ended is not None
    ledger.remove_stem(finished, ended, "vocals")
    assert ledger.accept(request())[1]


def test_a_done_job_can_be_published_again_after_one_of_its_stems_was_removed(ledger: Ledger) -> None:
    """As a worker does that is given the job once more; an error here would make it come back for ever."""
    finished = done(ledger)
    ended = ledger.outcome(finished)
    assert ended is not None
    ledger.publish(ended)
    ledger.remove_stem(finished, ended, "vocals")
    ledger.publish(ended)
    assert ledger.store.stat(names.stem_object(JOB, "vocals", "mp3")) is None


def test_a_second_callback_is_added_to_the_request_once(ledger: Ledger) -> None:
    one, two = Callback("http://one.example"), Callback("http://two.example")
    ledger.accept(request(callbacks=(one,)))
    ledger.accept(request(callbacks=(two,)))
    joined, _ = ledger.accept(request(callbacks=(two,)))
    assert joined.callbacks == (one, two)


def test_a_job_takes_sixteen_callbacks_and_no_more(ledger: Ledger) -> None:
    for number in range(16):
        ledger.accept(request(callbacks=(Callback(f"http://{number}.example"),)))
    with pytest.raises(InputError) as caught:
        ledger.accept(request(callbacks=(Callback("http://one-more.example"),)))
    assert caught.value.code == "too_many_callbacks"
    assert len(ledger.request(JOB).callbacks) == 16


def test_a_removed_job_leaves_nothing(ledger: Ledger) -> None:
    ledger.store.put(names.song_object(JOB), b"song")
    finished = done(ledger)
    ledger.publish(ledger.outcome(finished))
    ledger.remove_job(JOB)
    assert [*ledger.store.list("queue"), *ledger.store.list("output")] == []


def test_a_song_stays_while_a_job_with_other_options_needs_it(ledger: Ledger) -> None:
    ledger.store.put(names.song_object(JOB), b"song")
    ledger.accept(request())
    ledger.accept(request(job_id=JOB + ".01234567", options=replace(OPTIONS, format="flac")))
    ledger.remove_job(JOB)
    assert ledger.store.stat(names.song_object(JOB)) is not None
    ledger.remove_job(JOB + ".01234567")
    assert ledger.store.stat(names.song_object(JOB)) is None


def test_a_damaged_document_is_a_store_error_that_names_the_job(ledger: Ledger) -> None:
    ledger.store.put(names.request_object(JOB), b"{")
    with pytest.raises(StoreError, match=JOB) as caught:
        ledger.request(JOB)
    assert caught.value.code == "bad_document"
