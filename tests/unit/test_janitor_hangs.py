"""The janitor ends when one of its parts hangs, and not when one only has much to do."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from support import PATIENCE_SECONDS, eventually, song_hash_number
from unmix import names
from unmix.janitor import deliveries, periodic
from unmix.janitor.deliveries import Deliveries
from unmix.janitor.janitor import audit_of
from unmix.janitor.periodic import HANGS_AFTER_SECONDS, Periodic
from unmix.ledger.ledger import Ledger
from unmix.queue.job_queue import JobQueue
from unmix.settings import Settings
from unmix.store.file import FileStore
from unmix.store.protocol import ObjectInfo

SONGS = 9
#: A janitor whose deliveries never come back from the store.
HANGING = """
import time
from unmix.janitor import janitor, periodic
from unmix.settings import Settings
periodic.HANGS_AFTER_SECONDS = 1
janitor.Ledger.request = lambda *_: time.sleep(3600)
janitor.run(Settings())
"""


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(periodic, "time", clock)
    monkeypatch.setattr(deliveries, "time", clock)
    return clock


@pytest.fixture
def store(store: FileStore) -> FileStore:
    """A store with songs in it."""
    for number in range(SONGS):
        store.put(names.song_object(song_hash_number(number)), b"a song")
    return store


@pytest.fixture
def until() -> Iterator[threading.Event]:
    """Set when the test is over, so that nothing hangs longer."""
    event = threading.Event()
    yield event
    event.set()


def periodic_audit(queue: JobQueue, store: FileStore, until: threading.Event) -> Periodic:
    work = audit_of(Settings(), queue, Ledger(store)).run
    return Periodic("audit", work, pause_seconds=3600, stop=until)


def test_a_long_walk_over_the_store_does_not_count_as_hanging(
    queue: JobQueue, store: FileStore, clock: Clock, until: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    auditing = periodic_audit(queue, store, until)
    list_at_once = store.list

    def list_slowly(bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        for info in list_at_once(bucket, prefix):
            clock.now += 0.4 * HANGS_AFTER_SECONDS
            auditing.check()  # an error would end the walk
            yield info

    monkeypatch.setattr(store, "list", list_slowly)
    auditing.start()
    eventually(lambda: clock.now >= 0.4 * HANGS_AFTER_SECONDS * SONGS, "all songs are listed")
    auditing.check()


def test_a_walk_that_stands_still_is_found_out(
    queue: JobQueue, store: FileStore, clock: Clock, until: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands = threading.Event()

    def list_never(*_: Any) -> Iterator[ObjectInfo]:
        stands.set()
        until.wait()
        return iter(())

    monkeypatch.setattr(store, "list", list_never)
    auditing = periodic_audit(queue, store, until)
    auditing.start()
    assert stands.wait(PATIENCE_SECONDS)
    auditing.check()
    clock.now += HANGS_AFTER_SECONDS + 1
    with pytest.raises(RuntimeError, match="the audit hangs"):
        auditing.check()


def test_the_pause_between_two_walks_may_be_long(
    queue: JobQueue, store: FileStore, clock: Clock, until: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = threading.Event()
    wait = until.wait

    def pause(seconds: float | None = None) -> bool:
        pauses.set()
        return wait(seconds)

    monkeypatch.setattr(until, "wait", pause)
    auditing = periodic_audit(queue, store, until)
    auditing.start()
    assert pauses.wait(PATIENCE_SECONDS)
    clock.now += 2 * HANGS_AFTER_SECONDS
    auditing.check()


def test_a_delivery_that_hangs_is_found_out(
    queue: JobQueue, store: FileStore, clock: Clock, until: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "get", lambda _: until.wait())
    queue.outbox.owe(song_hash_number(1), 0)
    with Deliveries(Settings(), queue, Ledger(store)) as deliveries:
        deliveries.start_due()
        deliveries.check()
        clock.now += HANGS_AFTER_SECONDS + 1
        with pytest.raises(RuntimeError, match="delivery hangs"):
            deliveries.check()
        until.set()


def test_the_process_ends_although_a_delivery_hangs(redis_url: str, queue: JobQueue, tmp_path: Path) -> None:
    queue.outbox.owe(song_hash_number(1), 0)
    settings = {
        "UNMIX_REDIS_URL": redis_url,
        "UNMIX_STORE_URL": f"file://{tmp_path}/store",
        "UNMIX_SWEEP_SECONDS": "0.1",
    }
    environment = {**os.environ, **settings}
    ended = subprocess.run(
        [sys.executable, "-c", HANGING], env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert ended.returncode == 1
    assert "a callback's delivery hangs" in ended.stdout.splitlines()[-1]


def test_a_delivery_that_breaks_is_told(queue: JobQueue, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "get", lambda _: None)
    queue.outbox.owe(song_hash_number(1), 0)
    with capture_logs() as logs, Deliveries(Settings(), queue, Ledger(store)) as deliveries:
        deliveries.start_due()
        eventually(lambda: logs, "it is logged")
    assert [line["event"] for line in logs] == ["callback broke"]
