"""Parts of a song in a real file store: the first one counts, whole or not at all, and goes with its job."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from unmix import names
from unmix.errors import PartDamagedError, StoreError
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import Ledger
from unmix.ledger.parts import Parts
from unmix.outcome import Outcome, Ran, SongPart, StemFile
from unmix.store.file import FileStore

JOB = names.hash_song(b"a song")
REQUEST = JobRequest(JOB, SeparationOptions(model="demo"), "now", generation="g1")

Make = Callable[..., tuple[SongPart, dict[str, Path]]]


@pytest.fixture
def parts(ledger: Ledger) -> Parts:
    return ledger.parts(REQUEST, "exact-1")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a part and its files, whose bytes are the maker's name."""

    def make(index: int, worker: str = "worker-1") -> tuple[SongPart, dict[str, Path]]:
        files = {}
        for stem in ("vocals", "drums"):
            files[stem] = tmp_path / f"{worker}-{index}-{stem}"
            files[stem].write_bytes(f"{stem} by {worker}".encode())
        return SongPart(index, 1000 * index, 1000, {}, worker), files

    return make


def keys(store: FileStore) -> list[str]:
    return [info.name.key for info in store.list(names.OUTPUT_BUCKET, names.parts_prefix(JOB))]


def test_a_part_that_was_put_is_found_and_fetched(parts: Parts, make: Make, tmp_path: Path) -> None:
    put = parts.put(*make(1), token="t1")
    assert parts.found() == {1: put}
    assert parts.part(1) == put
    fetched = parts.fetch(put, tmp_path)
    assert {stem: path.read_bytes() for stem, path in fetched.items()} == {
        "vocals": b"vocals by worker-1",
        "drums": b"drums by worker-1",
    }


def test_what_is_not_there_yet_is_no_part(parts: Parts, store: FileStore, make: Make) -> None:
    assert parts.found() == {}
    assert parts.part(0) is None
    _, files = make(0)
    store.put_file(names.part_file_object(names.part_folder(JOB, "g1", "exact-1"), 0, "t1", "vocals"), files["vocals"])
    assert parts.found() == {}


def test_a_part_whose_files_could_not_be_put_is_not_there(
    parts: Parts, store: FileStore, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: names.ObjectName, path: Path) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "put_file", full)
    with pytest.raises(StoreError):
        parts.put(*make(0), token="t1")
    assert parts.found() == {}


def test_of_two_who_make_a_part_the_first_one_counts_and_the_other_leaves_nothing(
    parts: Parts, store: FileStore, make: Make
) -> None:
    first = parts.put(*make(0, "worker-1"), token="t1")
    before = keys(store)
    assert parts.put(*make(0, "worker-2"), token="t2") == first
    assert parts.found() == {0: first}
    assert keys(store) == before


def test_of_many_who_make_a_part_at_once_exactly_one_counts(parts: Parts, store: FileStore, make: Make) -> None:
    barrier = threading.Barrier(6)
    counted: list[SongPart] = []

    def put(number: int) -> None:
        made = make(0, f"worker-{number}")
        barrier.wait()
        counted.append(parts.put(*made, token=f"t{number}"))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each == counted[0] for each in counted] == [True] * 6
    assert len(keys(store)) == 3  # two stems and the document


@pytest.mark.parametrize("other", [{"generation": "g2"}, {"kind": "fast-1"}], ids=["submission", "kind"])
def test_parts_of_another_submission_or_kind_are_never_met(
    ledger: Ledger, parts: Parts, make: Make, other: dict[str, str]
) -> None:
    request = replace(REQUEST, generation=other.get("generation", "g1"))
    elsewhere = ledger.parts(request, other.get("kind", "exact-1"))
    elsewhere.put(*make(0), token="t1")
    assert parts.found() == {}
    parts.put(*make(0, "worker-2"), token="t2")
    assert [part.worker for part in (*parts.found().values(), *elsewhere.found().values())] == ["worker-2", "worker-1"]


@pytest.mark.parametrize("damage", ["removed", "cut", "changed"])
def test_a_damaged_part_is_noticed_and_can_be_made_again(
    parts: Parts, store: FileStore, make: Make, tmp_path: Path, damage: str
) -> None:
    put = parts.put(*make(0), token="t1")
    name = names.ObjectName(names.OUTPUT_BUCKET, put.stems["drums"].key)
    if damage == "removed":
        store.remove(name)
    else:
        store.put(name, b"drums" if damage == "cut" else b"DRUMS by worker-1")
    with pytest.raises(PartDamagedError):
        parts.fetch(put, tmp_path)
    parts.discard(put)
    assert keys(store) == []
    again = parts.put(*make(0, "worker-2"), token="t2")
    assert set(parts.fetch(again, tmp_path)) == {"vocals", "drums"}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"index": 0}'])
def test_a_document_that_cannot_be_read_is_no_part_and_makes_room(
    parts: Parts, store: FileStore, make: Make, data: bytes
) -> None:
    store.put(names.part_object(names.part_folder(JOB, "g1", "exact-1"), 0), data)
    assert parts.found() == {}
    parts.put(*make(0), token="t1")
    assert list(parts.found()) == [0]


def test_a_document_that_names_files_of_others_is_no_part(parts: Parts, store: FileStore, make: Make) -> None:
    put = parts.put(*make(0), token="t1")
    for key in (f"{JOB}-vocals.mp3", f"{JOB}/parts.g1.exact-1/../../x", "/etc/passwd"):
        foreign = replace(put, stems={"vocals": StemFile(key, 1, "00")})
        store.put(names.part_object(names.part_folder(JOB, "g1", "exact-1"), 0), foreign.to_json())
        assert parts.part(0) is None


def test_what_only_a_later_version_knows_of_a_part_is_ignored(parts: Parts, make: Make) -> None:
    put = parts.put(*make(0), token="t1")
    folder = names.part_folder(JOB, "g1", "exact-1")
    assert SongPart.from_json(put.to_json().replace(b"{", b'{"mood": 1, ', 1), folder) == put


def test_parts_of_a_removed_job_are_left_to_the_janitor(
    ledger: Ledger, parts: Parts, store: FileStore, make: Make
) -> None:
    accepted, _ = ledger.accept(REQUEST)
    parts.put(*make(0), token="t1")
    stems = {"vocals": StemFile(names.attempt_object(JOB, "t1", "vocals", "mp3").key, 1, "00")}
    ran = Ran("demo", "aa", "cpu", 44100, 1.0, 1.0)
    ledger.commit(Outcome(JOB, accepted.generation, JobStatus.DONE, "now", token="t1", stems=stems, ran=ran))
    ledger.removal.remove_job(JOB)  # which a client waits for, and parts may be very many
    ledger.removal.remove_leftovers(ledger.inventory.song(JOB).job(JOB))
    assert keys(store) == []


@pytest.mark.parametrize("status", [JobStatus.DONE, JobStatus.CANCELLED])
def test_parts_that_belong_to_no_result_go(
    ledger: Ledger, parts: Parts, store: FileStore, make: Make, status: JobStatus
) -> None:
    parts.put(*make(0), token="t1")
    of_this = keys(store)
    ledger.parts(replace(REQUEST, generation="g0"), "exact-1").put(*make(0), token="t1")
    stems = {"vocals": StemFile(names.attempt_object(JOB, "t1", "vocals", "mp3").key, 1, "00")}
    outcome = Outcome(JOB, "g1", status, "now", token="t1", stems=stems if status is JobStatus.DONE else {})
    ledger.removal.remove_losers(ledger.inventory.song(JOB).job(JOB), outcome)
    assert keys(store) == (of_this if status is JobStatus.DONE else [])
