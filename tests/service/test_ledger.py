"""The ledger on a real file store: what is owed, what is over, and that the first commit wins."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import song_hash_number
from unmix import names
from unmix.errors import InputError, SupersededError
from unmix.job import Callback, DamagedRequest, JobRequest, JobStatus, SeparationOptions
from unmix.ledger.inventory import marked_job
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome, Ran, StemFile
from unmix.store.file import FileStore

JOB = names.hash_song(b"a song")
OPTIONS = SeparationOptions(model="demo", weights_sha256="aa")


def request(**changes: Any) -> JobRequest:
    return replace(JobRequest(JOB, OPTIONS, "now"), **changes)


def outcome(of: JobRequest, token: str = "t1", status: JobStatus = JobStatus.DONE) -> Outcome:
    stems = {"vocals": StemFile(names.attempt_object(JOB, token, "vocals", "mp3").key, 1, "00")}
    ran = Ran("demo", "aa", "cpu", 44100, 1.0, 1.0)
    done = status is JobStatus.DONE
    return Outcome(
        JOB, of.generation, status, "now", token=token, stems=stems if done else {}, ran=ran if done else None
    )


def outcome_of(ledger: Ledger, of: JobRequest) -> Outcome:
    found = ledger.outcome(of)
    assert found is not None
    return found


def done(store: FileStore, ledger: Ledger, token: str = "t1") -> JobRequest:
    accepted, _ = ledger.accept(request())
    store.put(names.attempt_object(JOB, token, "vocals", "mp3"), b"x")
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
    assert {result.token for result in results} == {outcome_of(ledger, accepted).token}


def test_an_outcome_of_an_earlier_submission_counts_as_none_and_is_replaced(ledger: Ledger) -> None:
    failed, _ = ledger.accept(request())
    ledger.commit(outcome(failed, "t1", JobStatus.FAILED))
    again, new = ledger.accept(request())
    assert new
    assert ledger.outcome(again) is None
    ledger.commit(outcome(again, "t2"))
    assert outcome_of(ledger, again).token == "t2"


def test_a_late_commit_of_an_earlier_submission_is_refused(ledger: Ledger) -> None:
    failed, _ = ledger.accept(request())
    ledger.commit(outcome(failed, "t1", JobStatus.FAILED))
    again, _ = ledger.accept(request())
    with pytest.raises(SupersededError):
        ledger.commit(outcome(failed, "t3"))
    assert ledger.outcome(again) is None


def test_a_commit_that_slept_through_a_resubmission_does_not_end_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, store: FileStore
) -> None:
    """Frozen between its look and its put: the swap meets another object and the token of the old one is refused."""
    old, _ = ledger.accept(request())
    put_if = store.put_if

    def resubmitted_meanwhile(name: names.ObjectName, data: bytes, *, etag: str | None) -> None:
        monkeypatch.undo()
        ledger.removal.remove_job(JOB)
        again, _ = ledger.accept(request())
        ledger.commit(outcome(again, "new"))
        put_if(name, data, etag=etag)

    monkeypatch.setattr(store, "put_if", resubmitted_meanwhile)
    with pytest.raises(SupersededError):
        ledger.commit(outcome(old, "old"))
    resubmitted = ledger.request(JOB)
    assert resubmitted is not None
    assert outcome_of(ledger, resubmitted).token == "new"


def test_a_removed_job_cannot_be_committed(ledger: Ledger) -> None:
    accepted, _ = ledger.accept(request())
    ledger.removal.remove_job(JOB)
    with pytest.raises(SupersededError):
        ledger.commit(outcome(accepted))


def test_the_same_song_and_options_join_what_is_owed_or_done(ledger: Ledger, store: FileStore) -> None:
    owed, _ = ledger.accept(request())
    joined, new = ledger.accept(request())
    assert (joined.generation, new) == (owed.generation, False)
    finished = done(store, ledger)
    assert ledger.accept(request()) == (finished, False)


def test_other_weights_do_not_join(ledger: Ledger, store: FileStore) -> None:
    done(store, ledger)
    assert ledger.accept(request(options=replace(OPTIONS, weights_sha256="bb")))[1]


def test_another_model_under_the_same_id_does_not_join(ledger: Ledger, store: FileStore) -> None:
    done(store, ledger)
    assert ledger.accept(request(options=SeparationOptions(model="htdemucs")))[1]


def test_a_done_job_whose_stem_is_gone_does_not_join(ledger: Ledger, store: FileStore) -> None:
    finished = done(store, ledger)
    ended = ledger.outcome(finished)
    assert ended is not None
    ledger.removal.remove_stem(finished, ended, "vocals")
    assert ledger.accept(request())[1]


def test_a_done_job_can_be_published_again_after_one_of_its_stems_was_removed(ledger: Ledger, store: FileStore) -> None:
    """As a worker does that is given the job once more; an error here would make it come back for ever."""
    finished = done(store, ledger)
    ended = ledger.outcome(finished)
    assert ended is not None
    ledger.publish(ended)
    ledger.removal.remove_stem(finished, ended, "vocals")
    ledger.publish(ended)
    assert store.stat(names.stem_object(JOB, "vocals", "mp3")) is None


def test_a_second_callback_is_added_to_the_request_once(ledger: Ledger) -> None:
    one, two = Callback("http://one.example"), Callback("http://two.example")
    ledger.accept(request(callbacks=(one,)))
    ledger.accept(request(callbacks=(two,)))
    joined, _ = ledger.accept(request(callbacks=(two,)))
    assert joined.callbacks == (one, two)


def test_a_job_takes_sixteen_callbacks_of_one_who_asks_and_then_those_of_others(ledger: Ledger) -> None:
    def ask(number: int, asker: str) -> JobRequest:
        return ledger.accept(request(callbacks=(Callback(f"http://{number}.example", asker=asker),)))[0]

    for number in range(16):
        ask(number, "anna")
    with pytest.raises(InputError) as caught:
        ask(16, "anna")
    assert caught.value.code == "too_many_callbacks"
    assert len(ask(0, "anna").callbacks) == 16
    joined = ask(16, "ben")
    assert (len(joined.callbacks), joined.callbacks[-1].asker) == (17, "ben")
    assert ledger.request(JOB) == joined


def test_a_removed_job_leaves_nothing(ledger: Ledger, store: FileStore) -> None:
    store.put(names.song_object(JOB), b"song")
    finished = done(store, ledger)
    ledger.publish(outcome_of(ledger, finished))
    ledger.removal.remove_job(JOB)
    # The mark goes when the janitor has seen that nothing came into the removal.
    assert [info.name for info in (*store.list("queue"), *store.list("output"))] == [names.open_mark(JOB)]


def test_a_song_stays_while_a_job_with_other_options_needs_it(ledger: Ledger, store: FileStore) -> None:
    store.put(names.song_object(JOB), b"song")
    ledger.accept(request())
    ledger.accept(request(job_id=JOB + ".01234567", options=replace(OPTIONS, format="flac")))
    ledger.removal.remove_job(JOB)
    assert store.stat(names.song_object(JOB)) is not None
    ledger.removal.remove_job(JOB + ".01234567")
    assert store.stat(names.song_object(JOB)) is None


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\x00\xff", b'{"job_id": 1}', b"[" * 100_000, b"another's"]
)
def test_a_damaged_request_can_only_fail_and_is_replaced_by_a_new_one(
    ledger: Ledger, store: FileStore, data: bytes
) -> None:
    wrong = replace(request(), job_id=song_hash_number(2)).to_json() if data == b"another's" else data
    store.put(names.request_object(JOB), wrong)
    damaged = ledger.request(JOB)
    assert isinstance(damaged, DamagedRequest)
    assert damaged == ledger.request(JOB), "its failure could not be committed"
    failed = Outcome(JOB, damaged.generation, JobStatus.FAILED, utc_now(), error_code="bad_document")
    assert ledger.commit(failed) == failed
    with pytest.raises(InputError) as refused:
        ledger.retry(JOB)
    assert refused.value.code == "not_retryable"
    _, is_new = ledger.accept(request())
    assert is_new
    assert ledger.end(JOB) == (ledger.request(JOB), None)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\x00\xff", b'{"status": "lost"}', b"[" * 100_000])
@pytest.mark.parametrize("again", ["retry", "accept"])
def test_a_damaged_outcome_is_a_failure_and_does_not_end_the_next_submission(
    ledger: Ledger, store: FileStore, data: bytes, again: str
) -> None:
    ledger.accept(request())
    store.put(names.outcome_object(JOB), data)
    _, outcome = ledger.end(JOB)
    assert outcome is not None
    assert (outcome.status, outcome.error_code) == (JobStatus.FAILED, "bad_document")
    if again == "retry":
        ledger.retry(JOB)
    else:
        ledger.accept(request())
    assert ledger.end(JOB)[1] is None


def marked(ledger: Ledger) -> list[str]:
    return [marked_job(mark) for mark in ledger.inventory.open_marks()]


def test_a_request_is_never_there_without_its_mark(
    ledger: Ledger, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever dies right after it has written the request has left a job that the reconciler finds."""
    seen = []
    put_if = store.put_if

    def watched(name: names.ObjectName, data: bytes, *, etag: str | None) -> None:
        seen.append(marked(ledger))
        put_if(name, data, etag=etag)

    monkeypatch.setattr(store, "put_if", watched)
    accepted, _ = ledger.accept(request())
    ledger.commit(outcome(accepted, status=JobStatus.FAILED))
    ledger.open_marks.take_away(JOB)
    ledger.retry(JOB)
    assert seen == [[JOB], [JOB], [JOB]]


def test_a_mark_that_was_taken_away_before_the_request_was_written_is_put_again(
    ledger: Ledger, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The janitor has seen nothing of the job twice, and the request comes after its last look."""
    put_if = store.put_if

    def late(name: names.ObjectName, data: bytes, *, etag: str | None) -> None:
        ledger.open_marks.take_away(JOB)
        put_if(name, data, etag=etag)

    monkeypatch.setattr(store, "put_if", late)
    ledger.accept(request())
    assert marked(ledger) == [JOB]


def test_a_removal_is_marked_until_the_janitor_has_looked(ledger: Ledger, store: FileStore) -> None:
    done(store, ledger)
    ledger.open_marks.take_away(JOB)
    ledger.removal.remove_job(JOB)
    assert marked(ledger) == [JOB]


def test_a_removal_that_slept_through_a_later_submission_leaves_its_outcome_and_marks_it(
    ledger: Ledger, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(store, ledger)
    retire_song = ledger.removal.retire_song

    def submitted_and_done_meanwhile(song_hash: str, *, keep_for_jobs: bool = False) -> bool:
        monkeypatch.undo()
        again, _ = ledger.accept(request())
        ledger.commit(outcome(again, "t2"))
        ledger.open_marks.take_away(JOB)
        return retire_song(song_hash, keep_for_jobs=keep_for_jobs)

    monkeypatch.setattr(ledger.removal, "retire_song", submitted_and_done_meanwhile)
    ledger.removal.remove_job(JOB)
    known, ended = ledger.end(JOB)
    assert known is not None
    assert ended is not None
    assert ended.token == "t2"
    assert marked(ledger) == [JOB]


def test_a_song_that_a_broken_off_removal_set_aside_is_found_by_whoever_needs_it(
    ledger: Ledger, store: FileStore, tmp_path: Path
) -> None:
    store.put(names.retired_object(JOB, 1), b"a song")
    ledger.fetch_song(JOB, tmp_path / "song")
    assert (tmp_path / "song").read_bytes() == b"a song"
    assert ledger.has_song(JOB)
