"""Retention on a real Redis server and a real file store: what is over goes in its time, what is owed stays."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest

from unmix import names
from unmix.janitor.audit import Audit
from unmix.janitor.retention import Retention
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.inventory import StoredSong
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome, StemFile
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore
from unmix.store.protocol import ObjectStore

SONG = names.hash_song(b"a song")
JOB = SONG
OTHER_JOB = f"{SONG}.0123abcd"
HOUR = 3600


@pytest.fixture
def walk(queue: JobQueue, ledger: Ledger) -> Callable[..., None]:
    """One audit of the store."""

    def run(*, songs_hours: float = 0, stems_days: float = 0) -> None:
        Audit(queue, ledger, Retention(queue, ledger, songs_hours, stems_days)).run()

    return run


def put_song(store: FileStore, *, age_seconds: float) -> None:
    store.put(names.song_object(SONG), b"a song")
    make_older(store, names.song_object(SONG), age_seconds)


def make_older(store: FileStore, name: names.ObjectName, seconds: float) -> None:
    """Let the store take an object for so much older than it is."""
    (path,) = (store.root / name.bucket).rglob(name.key)
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def accept(ledger: Ledger, job_id: str = JOB) -> JobRequest:
    accepted, _ = ledger.accept(JobRequest(job_id, SeparationOptions(model="demo"), utc_now()))
    return accepted


def end(
    store: FileStore, ledger: Ledger, of: JobRequest, *, age_seconds: float, status: JobStatus = JobStatus.DONE
) -> None:
    finished_at = (datetime.now(UTC) - timedelta(seconds=age_seconds)).isoformat()
    name = names.attempt_object(of.job_id, "t1", "vocals", "mp3")
    store.put(name, b"x")
    stems = {"vocals": StemFile(name.key, 1, "00")}
    ledger.publish(ledger.commit(Outcome(of.job_id, of.generation, status, finished_at, token="t1", stems=stems)))
    make_older(store, names.request_object(of.job_id), age_seconds)
    make_older(store, names.outcome_object(of.job_id), age_seconds)


def die_over_a_removal(store: FileStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retire the song, and die once it is set aside."""
    with monkeypatch.context() as patch:
        patch.setattr(ledger.removal, "restore_song", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ledger.removal.retire_song(SONG)
    assert len(set_aside(store)) == 1


def set_aside(store: ObjectStore) -> list[names.ObjectName]:
    prefix = names.song_object(SONG).key + "."
    return [info.name for info in store.list(names.QUEUE_BUCKET, prefix)]


def keys(store: FileStore) -> list[str]:
    """What is stored, but for marks, which the reconciler takes away."""
    listed = [info.name for bucket in (names.QUEUE_BUCKET, names.OUTPUT_BUCKET) for info in store.list(bucket)]
    return [str(name) for name in listed if not name.key.startswith(names.OPEN_PREFIX)]


def test_a_song_that_is_pushed_during_the_audit_stays(
    queue: JobQueue, store: FileStore, ledger: Ledger, walk: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a producer of the old contract, which writes no request: an audit of a large store takes its time."""
    put_song(store, age_seconds=9 * HOUR)
    songs = ledger.inventory.songs

    def push_meanwhile() -> Iterator[StoredSong]:
        queue.submit(SONG, "")
        yield from songs()

    monkeypatch.setattr(ledger.inventory, "songs", push_meanwhile)
    walk(songs_hours=1)
    assert ledger.has_song(SONG)


def test_by_default_everything_stays(store: FileStore, ledger: Ledger, walk: Callable[..., None]) -> None:
    put_song(store, age_seconds=1e8)
    end(store, ledger, accept(ledger), age_seconds=1e8)
    before = keys(store)
    walk()
    assert keys(store) == before


def test_a_song_goes_when_its_jobs_have_long_been_over_and_its_stems_stay(
    store: FileStore, ledger: Ledger, walk: Callable[..., None]
) -> None:
    put_song(store, age_seconds=9 * HOUR)
    end(store, ledger, accept(ledger), age_seconds=2 * HOUR)
    walk(songs_hours=3)
    assert store.stat(names.song_object(SONG))
    walk(songs_hours=1)
    assert not store.stat(names.song_object(SONG))
    request, outcome = ledger.end(JOB)
    assert request is not None
    assert outcome is not None
    assert outcome.status is JobStatus.DONE
    assert store.stat(names.stem_object(JOB, "vocals", "mp3"))


def test_a_song_stays_as_long_as_one_of_its_jobs_is_owed(
    store: FileStore, ledger: Ledger, walk: Callable[..., None]
) -> None:
    put_song(store, age_seconds=9 * HOUR)
    end(store, ledger, accept(ledger), age_seconds=8 * HOUR)
    accept(ledger, OTHER_JOB)
    walk(songs_hours=1)
    assert store.stat(names.song_object(SONG))


def test_a_song_without_a_request_stays_while_its_hash_waits(
    queue: JobQueue, store: FileStore, walk: Callable[..., None], redis_url: str
) -> None:
    """A foreign producer put it and pushed its hash; nobody has taken it yet."""
    put_song(store, age_seconds=9 * HOUR)
    queue.submit(JOB, "any")
    walk(songs_hours=1)
    assert store.stat(names.song_object(SONG))
    queue.forget(JOB)
    walk(songs_hours=1)
    assert not store.stat(names.song_object(SONG))


def test_a_song_that_was_just_sent_again_stays(store: FileStore, ledger: Ledger, walk: Callable[..., None]) -> None:
    end(store, ledger, accept(ledger), age_seconds=8 * HOUR)
    put_song(store, age_seconds=0)
    walk(songs_hours=1)
    assert store.stat(names.song_object(SONG))


def test_a_job_accepted_while_its_song_is_removed_keeps_it(
    store: FileStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the requests and the removal: the song comes back."""
    put_song(store, age_seconds=9 * HOUR)
    remove = store.remove

    def accepted_meanwhile(name: names.ObjectName) -> None:
        monkeypatch.undo()
        accept(ledger)
        remove(name)

    monkeypatch.setattr(store, "remove", accepted_meanwhile)
    assert not ledger.removal.retire_song(SONG)
    assert store.get(names.song_object(SONG))[0] == b"a song"
    assert set_aside(store) == []


def test_a_song_that_comes_back_while_a_late_removal_finds_it_gone_stays(
    store: FileStore, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = store.copy

    def sent_again_after(source: names.ObjectName, target: names.ObjectName) -> None:
        monkeypatch.undo()
        try:
            copy(source, target)
        finally:
            put_song(store, age_seconds=0)
            accept(ledger)

    monkeypatch.setattr(store, "copy", sent_again_after)
    ledger.removal.retire_song(SONG)
    assert store.stat(names.song_object(SONG))


@pytest.mark.parametrize("owed", [True, False])
def test_a_removal_that_broke_off_is_brought_to_its_end(
    store: FileStore, ledger: Ledger, walk: Callable[..., None], monkeypatch: pytest.MonkeyPatch, owed: bool
) -> None:
    put_song(store, age_seconds=9 * HOUR)
    die_over_a_removal(store, ledger, monkeypatch)
    if owed:
        accept(ledger)
    in_two_hours = time.time_ns() + 2 * HOUR * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: in_two_hours)
    walk()
    assert (store.stat(names.song_object(SONG)) is not None) == owed
    assert set_aside(store) == []


def test_a_removal_that_may_only_sleep_finds_what_it_set_aside(
    store: FileStore, ledger: Ledger, walk: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes after the janitor looked, and after the song was sent again and went again."""
    put_song(store, age_seconds=9 * HOUR)
    die_over_a_removal(store, ledger, monkeypatch)
    (asleep,) = set_aside(store)
    walk()
    assert ledger.removal.retire_song(SONG)
    assert set_aside(store) == [asleep]
    accept(ledger)
    assert ledger.removal.restore_song(SONG, asleep)
    assert store.get(names.song_object(SONG))[0] == b"a song"


def test_stems_and_documents_go_after_their_days(
    queue: JobQueue, store: FileStore, ledger: Ledger, walk: Callable[..., None]
) -> None:
    put_song(store, age_seconds=0)
    end(store, ledger, accept(ledger), age_seconds=3 * 24 * HOUR)
    queue.note_failed(JOB, 1)
    walk(stems_days=4)
    assert ledger.request(JOB) is not None
    walk(stems_days=2)
    assert keys(store) == []
    assert queue.views.failed(limit=9) == ([], 0)


def test_what_is_owed_never_goes(store: FileStore, ledger: Ledger, walk: Callable[..., None]) -> None:
    put_song(store, age_seconds=1e8)
    owed = accept(ledger)
    accept_long_ago = replace(owed, submitted_at="2001-01-01T00:00:00.000+00:00")
    store.put(names.request_object(JOB), accept_long_ago.to_json())
    before = keys(store)
    walk(songs_hours=1, stems_days=1)
    assert keys(store) == before


def test_a_job_submitted_again_during_the_walk_stays(
    queue: JobQueue, store: FileStore, ledger: Ledger, walk: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_song(store, age_seconds=0)
    end(store, ledger, accept(ledger), age_seconds=9 * 24 * HOUR, status=JobStatus.FAILED)
    end_of = ledger.end

    def submitted_meanwhile(job_id: str) -> tuple[JobRequest | None, Outcome | None]:
        monkeypatch.undo()
        accept(ledger)
        return end_of(job_id)

    monkeypatch.setattr(ledger, "end", submitted_meanwhile)
    walk(stems_days=2)
    request, outcome = ledger.end(JOB)
    assert (request is not None, outcome) == (True, None)
    assert store.stat(names.song_object(SONG))


def test_nothing_that_is_removed_becomes_owed_on_the_way(store: FileStore, ledger: Ledger) -> None:
    """Whoever dies while it removes a job must leave no request that counts without its outcome."""
    put_song(store, age_seconds=0)
    end(store, ledger, accept(ledger), age_seconds=0)
    remove = store.remove

    def watched(name: names.ObjectName) -> None:
        remove(name)
        request, outcome = ledger.end(JOB)
        assert request is None or outcome is not None

    store.remove = watched  # type: ignore[method-assign]
    ledger.removal.remove_job(JOB)
    assert keys(store) == []
