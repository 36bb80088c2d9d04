"""A worker waits out an object store that is away, keeps its lease meanwhile, and knows when to stop."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unmix.errors import LeaseLostError, ObjectMissingError, StoreError
from unmix.job import JobRequest, JobStatus, SeparationOptions, SongLevel
from unmix.ledger.ledger import Ledger
from unmix.names import hash_song, request_object, song_object
from unmix.outcome import Outcome, Ran
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim, ModelCard
from unmix.runtime.heartbeat import Heartbeat
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix.store.file import FileStore
from unmix.store.protocol import ObjectInfo
from unmix_worker import patience
from unmix_worker.lease import Lease, Released
from unmix_worker.messages import SeparationTask
from unmix_worker.patience import Patience
from unmix_worker.scratch import Scratch
from unmix_worker.separation import Separated
from unmix_worker.waiting_store import WaitingStore
from unmix_worker.worker import Worker

SONG = b"a song"
JOB_ID = hash_song(SONG)
CARD = ModelCard("demo", "ab" * 32, ("drums", "vocals"), 44_100)
AWAY = StoreError("the store is away")
NO_HEARTBEAT = Heartbeat(None)
#: Longer than any test takes: what ends the waiting is something else.
LONG_SECONDS = 600


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def claim(queue: JobQueue) -> Claim:
    queue.submit(JOB_ID, "g")
    claim = queue.claim(str(queue.take(block_seconds=1)), JOB_ID, "worker-1")
    assert claim is not None
    return claim


@pytest.fixture
def lease(queue: JobQueue, claim: Claim) -> Iterator[Lease]:
    """The claim, renewed often."""
    with Lease(queue, claim, 0.01) as lease:
        yield lease


class Outage:
    """An action that fails a number of times before it works, and does something at each failure."""

    def __init__(self, failures: float, *, error: StoreError = AWAY, meanwhile: Callable[[], Any] = bool) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error
        self._meanwhile = meanwhile

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            self._meanwhile()
            raise self._error
        return "here it is"


def test_what_the_store_gives_at_last_is_returned(lease: Lease) -> None:
    action = Outage(3)
    assert Patience(LONG_SECONDS, lease, Shutdown(60), NO_HEARTBEAT).call(action) == "here it is"
    assert action.calls == 4


def test_whoever_waits_for_the_store_is_alive(lease: Lease, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    action = Outage(3, meanwhile=heartbeat.unlink)  # fails if it was not touched again
    Patience(LONG_SECONDS, lease, Shutdown(60), Heartbeat(heartbeat)).call(action)
    assert heartbeat.exists()


def test_an_outage_that_lasts_too_long_is_an_error_of_the_store(lease: Lease) -> None:
    with pytest.raises(StoreError) as caught:
        Patience(0.05, lease, Shutdown(60), NO_HEARTBEAT).call(Outage(float("inf")))
    assert caught.value is AWAY


def test_without_patience_nothing_is_tried_twice(lease: Lease) -> None:
    action = Outage(1)
    with pytest.raises(StoreError):
        Patience(0, lease, Shutdown(60), NO_HEARTBEAT).call(action)
    assert action.calls == 1


@pytest.mark.parametrize(
    "refusal", [StoreError("no right to", code="store_denied", retryable=False), ObjectMissingError("there is none")]
)
def test_a_refusal_is_final(lease: Lease, refusal: StoreError) -> None:
    action = Outage(1, error=refusal)
    with pytest.raises(StoreError) as caught:
        Patience(LONG_SECONDS, lease, Shutdown(60), NO_HEARTBEAT).call(action)
    assert caught.value is refusal
    assert action.calls == 1


def test_a_lost_lease_ends_the_waiting(lease: Lease, queue: JobQueue) -> None:
    action = Outage(float("inf"), meanwhile=lambda: queue.forget(JOB_ID))
    with pytest.raises(LeaseLostError):
        Patience(LONG_SECONDS, lease, Shutdown(60), NO_HEARTBEAT).call(action)


def test_the_lease_is_kept_while_the_store_is_away(lease: Lease, queue: JobQueue, claim: Claim) -> None:
    lease.progress = 0.75  # what a renewal brings to Redis

    def renewed() -> bool:
        record = queue.views.record(JOB_ID)
        return record is not None and record.progress == 0.75

    def until_renewed() -> str:
        if not renewed():
            raise AWAY
        return "renewed"

    assert Patience(LONG_SECONDS, lease, Shutdown(60), NO_HEARTBEAT).call(until_renewed) == "renewed"
    queue.renew(claim, progress=1)


def test_a_shutdown_that_leaves_no_time_gives_the_job_back(lease: Lease) -> None:
    shutdown = Shutdown(grace_seconds=5)
    with pytest.raises(Released):
        Patience(LONG_SECONDS, lease, shutdown, NO_HEARTBEAT).call(Outage(float("inf"), meanwhile=shutdown.request))


def test_a_shutdown_that_leaves_time_lets_the_waiting_go_on(lease: Lease) -> None:
    shutdown = Shutdown(grace_seconds=LONG_SECONDS)
    assert (
        Patience(LONG_SECONDS, lease, shutdown, NO_HEARTBEAT).call(Outage(3, meanwhile=shutdown.request))
        == "here it is"
    )


@pytest.fixture
def waiting(lease: Lease, tmp_path: Path) -> WaitingStore:
    """A store that waits, over one in a folder."""
    store = FileStore(tmp_path / "store")
    store.prepare()
    return WaitingStore(store, Patience(LONG_SECONDS, lease, Shutdown(60), NO_HEARTBEAT))


def behind(store: WaitingStore) -> Any:
    """The store that may be away."""
    return store._store


def lands_and_is_not_heard_of(action: Callable[..., Any]) -> Callable[..., Any]:
    """Return `action`, which the first time takes effect and nevertheless fails: its answer is lost."""
    calls: list[object] = []

    def call(*args: Any, **options: Any) -> Any:
        calls.append(args)
        result = action(*args, **options)
        if len(calls) == 1:
            raise AWAY
        return result

    return call


def test_a_commit_whose_answer_was_lost_is_found_to_be_one_s_own(
    waiting: WaitingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(waiting)
    request, _ = ledger.accept(JobRequest(JOB_ID, SeparationOptions(model="demo"), "now"))
    mine = Outcome(JOB_ID, request.generation, JobStatus.DONE, "now", token="mine")
    monkeypatch.setattr(behind(waiting), "put_if", lands_and_is_not_heard_of(behind(waiting).put_if))
    assert ledger.commit(mine) == mine
    assert ledger.outcome(request) == mine


def test_a_commit_that_replaces_an_earlier_submission_s_may_lose_its_answer_too(
    waiting: WaitingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(waiting)
    early, _ = ledger.accept(JobRequest(JOB_ID, SeparationOptions(model="demo"), "now"))
    ledger.commit(Outcome(JOB_ID, early.generation, JobStatus.FAILED, "now", token="early"))
    late = ledger.retry(JOB_ID)
    assert late is not None
    mine = Outcome(JOB_ID, late.generation, JobStatus.DONE, "now", token="mine")
    monkeypatch.setattr(behind(waiting), "put_if", lands_and_is_not_heard_of(behind(waiting).put_if))
    assert ledger.commit(mine) == mine


def test_a_foreign_push_whose_request_was_written_unheard_is_adopted_once(
    waiting: WaitingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = JobRequest(JOB_ID, SeparationOptions(model="demo"), "now")
    monkeypatch.setattr(behind(waiting), "put_if", lands_and_is_not_heard_of(behind(waiting).put_if))
    assert Ledger(waiting).adopt(pushed) == pushed


@pytest.mark.parametrize("operation", ["put", "put_file", "copy", "remove"])
def test_what_took_effect_unheard_can_be_done_again(
    waiting: WaitingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    name, other = song_object(JOB_ID), request_object(JOB_ID)
    (tmp_path / "song").write_bytes(SONG)
    waiting.put(name, SONG)
    arguments: dict[str, tuple[Any, ...]] = {
        "put": (other, SONG),
        "put_file": (other, tmp_path / "song"),
        "copy": (name, other),
        "remove": (other,),
    }
    monkeypatch.setattr(behind(waiting), operation, lands_and_is_not_heard_of(getattr(behind(waiting), operation)))
    getattr(waiting, operation)(*arguments[operation])
    assert (waiting.stat(other) is None) == (operation == "remove")
    assert waiting.get(name)[0] == SONG


def test_a_listing_that_breaks_off_begins_again(waiting: WaitingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting.put(song_object(JOB_ID), SONG)
    waiting.put(request_object(JOB_ID), b"{}")
    whole = list(waiting.list("queue"))
    broken = [True]

    def breaks_off(bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        yield whole[0]
        if broken:
            broken.clear()
            raise AWAY
        yield from whole[1:]

    monkeypatch.setattr(behind(waiting), "list", breaks_off)
    assert list(waiting.list("queue")) == whole
    assert len(whole) == 2


def test_an_object_is_opened_once_its_store_is_back(waiting: WaitingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting.put(song_object(JOB_ID), SONG)
    monkeypatch.setattr(behind(waiting), "open", fails_at_first(behind(waiting).open, AWAY))
    with waiting.open(song_object(JOB_ID)) as file:
        assert file.read() == SONG


class Process:
    """Stands in for the separating process: separates one song, then the worker has to stop."""

    def __init__(self, shutdown: Shutdown) -> None:
        self.warnings: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.tasks: list[SeparationTask] = []
        self._shutdown = shutdown

    def ensure_ready(self, shutdown: Shutdown) -> ModelCard:
        return CARD

    def separate(self, task: SeparationTask, lease: Lease, shutdown: Shutdown, parts: None) -> Separated:
        self.tasks.append(task)
        self._shutdown.request()
        vocals = Path(task.out) / "vocals.mp3"
        vocals.parent.mkdir()
        vocals.write_bytes(b"voice")
        ran = Ran("demo", CARD.weights_sha256, "cpu", 44_100, 1.0, 1.0)
        return Separated({"vocals": vocals}, ran, self.warnings, self.notes)


class Bench:
    """A worker with one song in its queue."""

    def __init__(self, folder: Path, queue: JobQueue, **settings: Any) -> None:
        self.queue = queue
        self.store = FileStore(folder / "store")
        self.store.prepare()
        self.ledger = Ledger(self.store)
        self.store.put(song_object(JOB_ID), SONG)
        level = SongLevel(44_100, 0.1, 0.2, "ab")
        wanted = JobRequest(JOB_ID, SeparationOptions(model="demo"), "now", duration_seconds=1.0, level=level)
        self.request, _ = self.ledger.accept(wanted)
        queue.submit(JOB_ID, self.request.generation)
        self.shutdown = Shutdown(grace_seconds=60)
        self.process: Any = Process(self.shutdown)
        self.scratch = folder / "scratch"
        self._settings = Settings(model="demo", take_seconds=0.1, **settings)

    def run(self) -> None:
        """Serve the song."""
        with Scratch(self.scratch) as scratch:
            Worker(self._settings, self.queue, self.store, self.process, scratch, worker_id="worker-1").run(
                self.shutdown
            )


def fails_at_first(action: Callable[..., Any], error: Exception, times: float = 3) -> Callable[..., Any]:
    """Return `action`, which now raises `error` so many times before it works."""
    left = [times]

    def call(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return action(*args, **options)

    return call


@pytest.mark.parametrize("operation", ["get", "get_file", "put_file", "put_if", "copy"])
def test_a_song_is_separated_once_though_the_store_goes_and_comes(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    bench = Bench(tmp_path, queue)
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, operation, fails_at_first(getattr(bench.store, operation), AWAY))
        bench.run()
    outcome = bench.ledger.outcome(bench.request)
    assert outcome is not None
    assert (outcome.status, outcome.attempt, list(outcome.stems)) == (JobStatus.DONE, 1, ["vocals"])
    assert len(bench.process.tasks) == 1
    record = queue.views.record(JOB_ID)
    assert record is not None
    assert (record.status, record.error_code) == (JobStatus.DONE, None)


def test_what_rest_and_the_engine_say_of_a_song_is_told_once(queue: JobQueue, tmp_path: Path) -> None:
    bench = Bench(tmp_path, queue)
    checked = replace(bench.request, warnings=("cut",), notes=("resampled",))
    bench.store.put(request_object(JOB_ID), checked.to_json())
    bench.process.warnings, bench.process.notes = ("cut", "clipped"), ("resampled",)
    bench.run()
    outcome = bench.ledger.outcome(bench.request)
    assert outcome is not None
    assert (outcome.warnings, outcome.notes) == (("cut", "clipped"), ("resampled",))


def test_a_job_whose_stems_cannot_be_stored_for_too_long_is_tried_again_later(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, queue, store_patience_seconds=0)
    monkeypatch.setattr(bench.store, "put_file", fails_at_first(bench.store.put_file, AWAY, times=1))
    bench.run()
    assert bench.ledger.outcome(bench.request) is None
    record = queue.views.record(JOB_ID)
    assert record is not None
    assert (record.status, record.error_code) == (JobStatus.QUEUED, "store_unavailable")
    assert record.retry_at_ms is not None
    assert queue.views.counts().delayed == 1


def test_a_job_whose_song_does_not_fit_on_the_scratch_disk_is_tried_again_later(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, queue)

    def fill_the_disk(*_: Any) -> None:
        bench.shutdown.request()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bench.store, "get_file", fill_the_disk)
    bench.run()
    assert bench.ledger.outcome(bench.request) is None
    record = queue.views.record(JOB_ID)
    assert record is not None
    assert (record.status, record.error_code) == (JobStatus.QUEUED, "scratch_failed")
    assert queue.views.counts().delayed == 1


def test_the_level_that_the_request_has_is_told_to_the_child(queue: JobQueue, tmp_path: Path) -> None:
    bench = Bench(tmp_path, queue)
    bench.run()
    assert [task.level for task in bench.process.tasks] == [SongLevel(44_100, 0.1, 0.2, "ab")]
