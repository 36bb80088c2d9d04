"""What a lead tells its child, on a real Redis and a real store: whatever others did or lost, all is made once."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from support import RedisServer, song_hash_number
from unmix import names
from unmix.errors import EngineError, StoreError
from unmix.job import JobRequest, SeparationOptions, SongLevel
from unmix.ledger.ledger import Ledger
from unmix.outcome import RanParts, SongPart, StemFile
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim
from unmix.queue.runs import RUN_PARTS, PartsOfJob, Run
from unmix.store.file import FileStore
from unmix_worker import parts as worker_parts
from unmix_worker.messages import (
    Event,
    MakeRun,
    NoMoreRuns,
    Order,
    PartMade,
    PartsBegun,
    PartsJoined,
    RunWanted,
    UsePart,
)
from unmix_worker.parts import PartsHelp, PartsLead

JOB = song_hash_number(1)
REQUEST = JobRequest(JOB, SeparationOptions(model="demo"), "now", generation="g1")
COUNT = 7
BEGUN = PartsBegun(COUNT, "exact-1", SongLevel(COUNT * 100, 0.0, 1.0, "ab"), 100, ("vocals",))
ASKED = PartsOfJob(JOB, "g1", "exact-1", COUNT, 100, asdict(BEGUN.level))


@pytest.fixture(autouse=True)
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_parts, "_LOOK_SECONDS", 0)


@pytest.fixture
def claim(queue: JobQueue) -> Claim:
    queue.submit(JOB, "g1")
    claim = queue.claim(str(queue.take(block_seconds=1)), JOB, "worker-1")
    assert claim is not None
    return claim


class Child:
    """Does what a lead says, and notes which parts it was given and which it made."""

    def __init__(self, lead: PartsLead, folder: Path) -> None:
        self.given: list[int] = []
        self.made: list[int] = []
        self._lead = lead
        self._folder = folder
        self._todo: list[Order] = []
        self.tell(BEGUN)
        self.tell(RunWanted(0))

    def tell(self, event: Event | None) -> None:
        self._todo += self._lead.orders(event)

    def work(self, *, looks: int = 40) -> None:
        """Work until all parts are there, or nothing comes of it any more."""
        for _ in range(looks):
            if self._todo:
                match self._todo.pop(0):
                    case UsePart(index, files):
                        assert Path(files["vocals"]).read_bytes() == b"voice"
                        self.given.append(index)
                    case MakeRun(first, stop):
                        for index in range(first, stop):
                            self.made.append(index)
                            self.tell(made(index, self._folder))
                        self.tell(RunWanted(stop))
            else:
                self.tell(None)
        assert sorted(self.given + self.made) == list(range(COUNT))


def made(index: int, folder: Path) -> PartMade:
    path = folder / f"{index}.vocals.flac"
    path.write_bytes(b"voice")
    return PartMade(index, 100 * index, 100, {"vocals": str(path)}, {"vocals": 0}, {"vocals": [-1, 1]})


def put(ledger: Ledger, index: int, folder: Path) -> SongPart:
    """Let somebody else put a part."""
    part = made(index, folder)
    files = {"vocals": Path(part.files["vocals"])}
    return ledger.parts(REQUEST, "exact-1").put(
        SongPart(index, part.start, part.samples, {}, "worker-2", part.clipped), files, token="t2"
    )


def lead_of(queue: JobQueue, ledger: Ledger, claim: Claim, folder: Path, *, patience_seconds: float = 600) -> PartsLead:
    return PartsLead(
        queue,
        ledger,
        REQUEST,
        claim,
        folder,
        worker_id="worker-1",
        renew_seconds=60,
        least_seconds=0,
        patience_seconds=patience_seconds,
    )


def test_a_lead_alone_makes_everything_once_and_keeps_it(
    queue: JobQueue, ledger: Ledger, claim: Claim, tmp_path: Path
) -> None:
    child = Child(lead_of(queue, ledger, claim, tmp_path), tmp_path)
    child.work()
    assert child.made == list(range(COUNT))
    assert sorted(ledger.parts(REQUEST, "exact-1").found()) == list(range(COUNT))
    assert not list(tmp_path.glob("*.flac"))  # what is kept lies in the store


def test_what_an_earlier_attempt_made_is_used(queue: JobQueue, ledger: Ledger, claim: Claim, tmp_path: Path) -> None:
    for index in (0, 3, 4):
        put(ledger, index, tmp_path)
    child = Child(lead_of(queue, ledger, claim, tmp_path), tmp_path)
    child.work()
    assert sorted(child.given) == [0, 3, 4]


def test_what_a_helper_makes_meanwhile_is_used(queue: JobQueue, ledger: Ledger, claim: Claim, tmp_path: Path) -> None:
    child = Child(lead_of(queue, ledger, claim, tmp_path), tmp_path)
    run = queue.runs.take(ASKED)
    assert isinstance(run, Run)
    for index in range(run.first, run.stop):
        put(ledger, index, tmp_path)
        queue.runs.note_there(ASKED, index)
    child.work()
    assert set(child.given) == set(range(run.first, run.stop))


@pytest.mark.parametrize("damage", ["a stem changed", "a stem is gone", "all of it is gone"])
def test_a_part_that_is_of_no_use_is_made_again(
    damage: str, queue: JobQueue, ledger: Ledger, store: FileStore, claim: Claim, tmp_path: Path
) -> None:
    part = put(ledger, 2, tmp_path)
    queue.runs.ask_help(claim, ASKED, there=(2,))
    stem = names.ObjectName(names.OUTPUT_BUCKET, part.stems["vocals"].key)
    if damage == "a stem changed":
        store.put(stem, b"noise")
    else:
        store.remove(stem)
    if damage == "all of it is gone":
        store.remove(names.part_object(names.part_folder(JOB, "g1", "exact-1"), 2))
    child = Child(lead_of(queue, ledger, claim, tmp_path), tmp_path)
    child.work()
    assert child.given == []


def test_without_redis_everything_is_made_but_what_is_in_the_store(
    own_redis: RedisServer, ledger: Ledger, tmp_path: Path
) -> None:
    put(ledger, 1, tmp_path)
    with JobQueue(own_redis.url) as queue:
        queue.submit(JOB, "g1")
        claim = queue.claim(str(queue.take(block_seconds=1)), JOB, "worker-1")
        assert claim is not None
        own_redis.kill()
        child = Child(lead_of(queue, ledger, claim, tmp_path), tmp_path)
        child.work()
    assert child.given == [1]


def test_a_store_that_takes_no_parts_costs_the_song_nothing(
    queue: JobQueue, ledger: Ledger, store: FileStore, claim: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: names.ObjectName, path: Path) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "put_file", full)
    child = Child(lead_of(queue, ledger, claim, tmp_path), tmp_path)
    child.work()
    assert child.made == list(range(COUNT))
    assert not list(tmp_path.glob("*.flac"))
    assert ledger.parts(REQUEST, "exact-1").found() == {}


def test_what_a_helper_has_taken_and_does_not_deliver_is_made_in_the_end(
    queue: JobQueue, ledger: Ledger, claim: Claim, tmp_path: Path
) -> None:
    lead = lead_of(queue, ledger, claim, tmp_path, patience_seconds=0)
    child = Child(lead, tmp_path)
    run = queue.runs.take(ASKED)
    assert isinstance(run, Run)  # and its lease is renewed for ever
    child.work()
    assert set(range(run.first, run.stop)) <= set(child.made)


@pytest.mark.parametrize(
    "wrong",
    [{"start": 77}, {"samples": 5}, {"clipped": {}}, {"stems": {}}, {"stems": {"drums": StemFile("", 1, "00")}}],
    ids=str,
)
def test_a_document_that_does_not_fit_the_song_is_not_handed_to_the_child(
    wrong: dict[str, Any], queue: JobQueue, ledger: Ledger, store: FileStore, claim: Claim, tmp_path: Path
) -> None:
    part = put(ledger, 2, tmp_path)
    folder = names.part_folder(JOB, "g1", "exact-1")
    if "stems" in wrong:
        wrong = {"stems": {stem: replace(part.stems["vocals"]) for stem in wrong["stems"]}}
    store.put(names.part_object(folder, 2), replace(part, **wrong).to_json())
    child = Child(lead_of(queue, ledger, claim, tmp_path), tmp_path)
    child.work()
    assert child.given == []
    assert sorted(ledger.parts(REQUEST, "exact-1").found()) == list(range(COUNT))


def test_one_document_that_cannot_be_had_keeps_nobody_from_the_others(
    queue: JobQueue, ledger: Ledger, store: FileStore, claim: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in (2, 3, 4):
        put(ledger, index, tmp_path)
    get = store.get

    def broken(name: names.ObjectName) -> tuple[bytes, str]:
        if name.key.endswith("00003.json"):
            raise StoreError("it cannot be read")
        return get(name)

    monkeypatch.setattr(store, "get", broken)
    child = Child(lead_of(queue, ledger, claim, tmp_path), tmp_path)
    child.work()
    assert sorted(child.given) == [2, 4]


def test_parts_are_fetched_only_so_far_ahead_of_what_the_child_has_joined(
    queue: JobQueue, ledger: Ledger, claim: Claim, tmp_path: Path
) -> None:
    count = 40
    for index in range(count):
        put(ledger, index, tmp_path)
    lead = lead_of(queue, ledger, claim, tmp_path)
    given = [*lead.orders(replace(BEGUN, count=count, level=replace(BEGUN.level, samples=100 * count)))]
    for _ in range(20):
        given += lead.orders(None)
    assert len(given) == 2 * RUN_PARTS
    given += lead.orders(PartsJoined(3))
    assert len(given) == 2 * RUN_PARTS + 3


def test_parts_over_which_a_child_failed_are_not_left_to_the_next_attempt(
    queue: JobQueue, ledger: Ledger, claim: Claim, tmp_path: Path
) -> None:
    for index in (2, 3):
        put(ledger, index, tmp_path)
    lead = lead_of(queue, ledger, claim, tmp_path)
    Child(lead, tmp_path).work()
    lead.failed(EngineError("a network broke", code="separation_failed"))
    assert len(ledger.parts(REQUEST, "exact-1").found()) == COUNT
    lead.failed(EngineError("its FLAC is none", code="part_damaged", retryable=True))
    assert sorted(ledger.parts(REQUEST, "exact-1").found()) == [0, 1, 4, 5, 6]


def test_a_helper_whose_child_would_make_other_parts_makes_none(queue: JobQueue, ledger: Ledger, claim: Claim) -> None:
    queue.runs.ask_help(claim, ASKED, there=())
    run = queue.runs.take(ASKED)
    assert isinstance(run, Run)
    helper = PartsHelp(queue, ledger.parts(REQUEST, "exact-1"), ASKED, run, worker_id="w", renew_seconds=60)
    assert list(helper.orders(replace(BEGUN, parts_kind="exact-2"))) == []
    assert list(helper.orders(RunWanted(0))) == [NoMoreRuns()]
    assert helper.is_idle


def test_it_tells_who_made_what(queue: JobQueue, ledger: Ledger, claim: Claim, tmp_path: Path) -> None:
    for index in (0, 3):
        put(ledger, index, tmp_path)
    lead = lead_of(queue, ledger, claim, tmp_path)
    assert lead.ran is None
    child = Child(lead, tmp_path)
    child.work()
    assert lead.ran == RanParts("exact-1", COUNT, 100, {"worker-1": COUNT - 2, "worker-2": 2}, found=2, again=0)


def test_parts_of_another_submission_are_not_met(queue: JobQueue, ledger: Ledger, claim: Claim, tmp_path: Path) -> None:
    elsewhere = ledger.parts(replace(REQUEST, generation="g0"), "exact-1")
    part = made(0, tmp_path)
    elsewhere.put(SongPart(0, 0, 100, {}, "worker-2", {"vocals": 0}), {"vocals": Path(part.files["vocals"])}, token="t")
    child = Child(lead_of(queue, ledger, claim, tmp_path), tmp_path)
    child.work()
    assert child.given == []
