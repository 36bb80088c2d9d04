"""Copies of all that a store keeps, to a store of another kind and back: the drill of a restore, and mishaps."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reconciling import flush, marked, two_passes
from s3_servers import opened_store
from unmix import names
from unmix.access.keyring import Keyring
from unmix.access.tenants import Tenants
from unmix.errors import InputError, StoreError
from unmix.janitor.audit import Audit
from unmix.janitor.reconciler import Reconciler
from unmix.janitor.retention import Retention
from unmix.job import Callback, JobRequest, JobStatus, SeparationOptions
from unmix.ledger.copying import Copied, Copying
from unmix.ledger.ledger import Ledger, utc_now
from unmix.names import OUTPUT_BUCKET, QUEUE_BUCKET, ObjectName
from unmix.outcome import Delivery, Outcome, Ran, SongPart
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore
from unmix.store.protocol import ObjectInfo, ObjectStore

OPTIONS = SeparationOptions(model="demo")
TOLD = Delivery(True, "2026-01-01T00:00:00.000+00:00", 1)


def song(number: int) -> bytes:
    return f"song number {number}".encode() * 1000


@dataclass
class Service:
    """What the parts of a service do to its store, one after the other."""

    store: ObjectStore
    folder: Path

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store)

    def submit(self, number: int, *, variant: str = "", callbacks: int = 0, tenant: str = "main") -> JobRequest:
        data = song(number)
        sha256 = names.hash_song(data)
        song_hash = Tenants(self.store).ids(tenant).of_song(sha256)
        self.store.put(names.song_object(song_hash), data)
        wanted = JobRequest(
            f"{song_hash}.{variant}" if variant else song_hash,
            OPTIONS,
            f"2026-01-01T00:00:{number:02}.000+00:00",
            callbacks=tuple(Callback(f"http://{index}") for index in range(callbacks)),
            tenant=tenant,
            song_sha256=None if tenant == "main" else sha256,
        )
        return self.ledger.accept(wanted)[0]

    def separate(self, request: JobRequest, *, token: str = "t1") -> Outcome:
        path = self.folder / "stem"
        stems = {}
        for stem in ("vocals", "drums"):
            path.write_bytes(f"{stem} of {request.job_id} by {token}".encode() * 50)
            stems[stem] = self.ledger.put_stem(request.job_id, token, stem, "mp3", path)
        peaks = self.ledger.put_peaks(request.job_id, token, b"[]")
        ran = Ran("demo", "aa", "cpu", 44100, 1.0, 1.0)
        outcome = self.end(request, JobStatus.DONE, token=token, stems=stems, peaks=peaks, ran=ran)
        self.ledger.publish(outcome)
        return outcome

    def end(self, request: JobRequest, status: JobStatus, **more: object) -> Outcome:
        return self.ledger.commit(Outcome(request.job_id, request.generation, status, utc_now(), **more))  # type: ignore[arg-type]


@pytest.fixture(params=["file", "moto"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Service:
    """A service on a store in a folder, or on an S3 server."""
    return Service(opened_store(request.param, request, tmp_path), tmp_path)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, service: Service, tmp_path: Path) -> ObjectStore:
    """An empty store of the other kind."""
    return opened_store("moto" if isinstance(service.store, FileStore) else "file", request, tmp_path / "elsewhere")


@pytest.fixture
def backup(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "backup")


def objects(store: ObjectStore) -> dict[str, str]:
    """What is stored, by a digest of its bytes."""
    listed = [info.name for bucket in (QUEUE_BUCKET, OUTPUT_BUCKET) for info in store.list(bucket)]
    return {str(name): hashlib.sha256(store.get(name)[0]).hexdigest() for name in listed}


def audit(queue: JobQueue, ledger: Ledger) -> None:
    Audit(queue, ledger, Retention(queue, ledger, 0, 0)).run()


def test_a_service_goes_on_from_a_restored_backup_as_if_nothing_had_happened(
    service: Service, backup: FileStore, elsewhere: ObjectStore, queue: JobQueue, redis_url: str
) -> None:
    """The drill: a dozen jobs in all states, Redis lost, and another kind of store."""
    ledger = service.ledger
    done = service.submit(1, callbacks=1)
    service.separate(done)
    ledger.note_delivery(done.job_id, done.generation, 0, TOLD)
    not_told = service.submit(2, callbacks=2)
    service.separate(not_told)
    ledger.note_delivery(not_told.job_id, not_told.generation, 0, TOLD)
    without_drums = service.submit(3)
    ledger.removal.remove_stem(without_drums, service.separate(without_drums), "drums")
    failed = service.submit(4, callbacks=1)
    service.end(failed, JobStatus.FAILED, error_code="poison")
    cancelled = service.submit(5)
    service.end(cancelled, JobStatus.CANCELLED)
    waiting, variant = service.submit(6), service.submit(1, variant="0123abcd")
    again = service.submit(7)
    service.end(again, JobStatus.FAILED)
    assert ledger.retry(again.job_id)
    runs = service.submit(8, callbacks=1)
    queue.submit(runs.job_id, runs.generation, callbacks=1)
    assert (element := queue.take(block_seconds=1))
    assert queue.claim(element, element, "w1")
    made = service.folder / "part"
    made.write_bytes(b"a part")
    part = SongPart(0, 0, 10, {}, "w1")
    ledger.parts(runs, "kind").put(part, {"vocals": made}, token="t1")
    service.store.put(names.attempt_object(runs.job_id, "t1", "vocals", "mp3"), b"not committed")
    of_the_choir = service.submit(9, tenant="choir")
    service.separate(of_the_choir)
    by_url, _ = ledger.accept(replace(waiting, job_id="0" * 64, url="https://songs/1.mp3"))
    removed = service.submit(10)
    service.separate(removed)
    ledger.removal.remove_job(removed.job_id)
    key, _ = Keyring(service.store).create("anna", scopes=("read",), tenant="choir")
    upload_id = names.new_upload_id(9_999_999_999)
    ledger.uploads.begin(upload_id, size_bytes=8)
    service.store.put(names.upload_piece(upload_id, 0, 8), b"half")

    Copying(service.store, backup).run()
    copied = Copying(backup, elsewhere).run()
    flush(redis_url)

    restored = Ledger(elsewhere)
    audit(queue, restored)
    two_passes(Reconciler(queue, restored))
    owed = [by_url.job_id, variant.job_id, waiting.job_id, again.job_id, runs.job_id]
    snapshot = queue.views.snapshot()
    assert snapshot.present == snapshot.open == set(owed)
    assert snapshot.failed == {failed.job_id}
    assert snapshot.outbox == {(not_told.job_id, 1), (failed.job_id, 0)}
    over = [done, not_told, without_drums, failed, cancelled, of_the_choir]
    assert (copied.jobs, copied.damaged) == (len(owed) + len(over), [])
    assert set(queue.job_list.members()) == {*owed, *(request.job_id for request in over)}
    for job_id in (*owed, *(request.job_id for request in over)):
        assert restored.end(job_id) == ledger.end(job_id)
    were, are = objects(service.store), objects(elsewhere)
    for kept in (done, not_told, without_drums, of_the_choir):
        ours = {name: digest for name, digest in were.items() if kept.job_id in name and "/open/" not in name}
        assert ours
        assert {name: are.get(name) for name in ours} == ours
    assert names.stem_object(without_drums.job_id, "drums", "mp3").key not in str(are)
    assert removed.job_id not in str([name for name in are if "/open/" not in name])
    assert restored.uploads.look(upload_id).offset == 4
    assert Keyring(elsewhere).find(key.key_hash) == key
    assert Tenants(elsewhere).ids("choir").have(of_the_choir.job_id)


def test_what_is_there_already_is_not_copied_again(service: Service, elsewhere: ObjectStore) -> None:
    request = service.submit(1, callbacks=1)
    service.separate(request)
    Keyring(service.store).create("anna", scopes=("read",), tenant="main")
    first = Copying(service.store, elsewhere).run()
    second = Copying(service.store, elsewhere).run()
    assert (second.objects, second.same) == (0, first.objects)
    service.ledger.note_delivery(request.job_id, request.generation, 0, TOLD)
    third = Copying(service.store, elsewhere).run()
    assert (third.objects, third.jobs) == (1, 1)
    assert Ledger(elsewhere).end(request.job_id) == service.ledger.end(request.job_id)


class Failing(FileStore):
    """A store that is away after some puts."""

    puts_left = 0

    def put_stream(self, name: ObjectName, stream: object, size_bytes: int) -> None:
        self._count()
        super().put_stream(name, stream, size_bytes)  # type: ignore[arg-type]

    def put(self, name: ObjectName, data: bytes) -> None:
        self._count()
        super().put(name, data)

    def _count(self) -> None:
        if self.puts_left <= 0:
            raise StoreError("away")
        self.puts_left -= 1


def test_a_copy_that_broke_off_anywhere_is_a_store_to_start_from_and_is_finished_by_the_next(
    store: FileStore, tmp_path: Path, queue: JobQueue, redis_url: str
) -> None:
    service = Service(store, tmp_path)
    service.separate(service.submit(1))
    service.submit(2)
    for puts in range(12):
        target = Failing(tmp_path / f"target-{puts}")
        target.puts_left = puts
        try:
            Copying(store, target).run()
        except StoreError:
            pass
        else:
            break
        broken = Ledger(target)
        for stored in broken.inventory.songs():
            for job_id in stored.jobs:
                request, outcome = broken.end(job_id)
                assert request or not broken.has_outcome(job_id)
                assert not request or broken.has_song(stored.song_hash)
                assert not outcome or all(map(broken.has_stem, outcome.stems.values()))
        target.puts_left = 100
        Copying(store, target).run()
        assert objects(target) == objects(store)
    else:
        pytest.fail("it always broke off")
    assert puts > 5


class Changing(FileStore):
    """A store that a service works on: something happens right before one object is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.before: dict[ObjectName, object] = {}

    def get(self, name: ObjectName) -> tuple[bytes, str]:
        self._happen(name)
        return super().get(name)

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        self._happen(name)
        return super().stat(name)

    def list(self, bucket: str, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from [*super().list(bucket, prefix)]

    def _happen(self, name: ObjectName) -> None:
        if happens := self.before.pop(name, None):
            happens()  # type: ignore[operator]


@pytest.fixture
def busy(tmp_path: Path) -> Service:
    store = Changing(tmp_path / "busy")
    store.prepare()
    return Service(store, tmp_path)


def test_a_job_that_ends_while_it_is_copied_is_owed_or_done_in_the_copy_and_done_after_the_next(
    busy: Service, store: FileStore
) -> None:
    request = busy.submit(1)
    name = names.request_object(request.job_id)
    busy.store.before[name] = lambda: busy.separate(request)  # type: ignore[attr-defined]
    Copying(busy.store, store).run()
    assert Ledger(store).end(request.job_id) == (request, None)
    assert marked(Ledger(store)) == [request.job_id]
    Copying(busy.store, store).run()
    assert objects(store) == objects(busy.store)


def test_a_job_that_is_removed_while_it_is_copied_is_not_in_the_copy(busy: Service, store: FileStore) -> None:
    request = busy.submit(1)
    outcome = busy.separate(request)
    name = ObjectName(OUTPUT_BUCKET, outcome.stems["drums"].key)
    busy.store.before[name] = lambda: busy.ledger.removal.remove_job(request.job_id)  # type: ignore[attr-defined]
    Copying(busy.store, store).run()
    assert Ledger(store).end(request.job_id) == (None, None)


def test_a_job_that_is_submitted_again_while_it_is_copied_is_owed_in_the_copy(busy: Service, store: FileStore) -> None:
    request = busy.submit(1)
    busy.end(request, JobStatus.FAILED)
    for mark in marked(busy.ledger):
        busy.ledger.open_marks.take_away(mark)
    name = names.request_object(request.job_id)
    busy.store.before[name] = lambda: busy.ledger.retry(request.job_id)  # type: ignore[attr-defined]
    Copying(busy.store, store).run()
    _, outcome = Ledger(store).end(request.job_id)
    assert outcome is None
    assert marked(Ledger(store)) == [request.job_id]


def test_jobs_that_are_gone_stay_in_the_copy_unless_they_are_to_be_deleted(
    service: Service, elsewhere: ObjectStore
) -> None:
    gone, stays = service.submit(1), service.submit(1, variant="0123abcd")
    service.separate(gone)
    Copying(service.store, elsewhere).run()
    service.ledger.removal.remove_job(gone.job_id)
    assert Copying(service.store, elsewhere).run().surplus == 1
    assert Ledger(elsewhere).end(gone.job_id)[1] is not None
    assert Copying(service.store, elsewhere, delete=True).run().surplus == 1
    assert Ledger(elsewhere).end(gone.job_id) == (None, None)
    assert Ledger(elsewhere).request(stays.job_id) == stays
    assert Ledger(elsewhere).has_song(stays.song_hash)
    assert Copying(service.store, elsewhere, delete=True).run().surplus == 0


def test_an_empty_store_never_empties_its_copy(service: Service, elsewhere: ObjectStore) -> None:
    kept = Service(elsewhere, service.folder).submit(1)
    with pytest.raises(InputError) as caught:
        Copying(service.store, elsewhere, delete=True).run()
    assert caught.value.code == "nothing_to_copy"
    assert Ledger(elsewhere).request(kept.job_id) == kept


def test_what_is_damaged_is_told_and_left_out(service: Service, elsewhere: ObjectStore) -> None:
    request = service.submit(1)
    vocals = ObjectName(OUTPUT_BUCKET, service.separate(request).stems["vocals"].key)
    rotten = service.submit(2)
    for name in (vocals, names.song_object(rotten.song_hash)):
        data, _ = service.store.get(name)
        service.store.put(name, data[:-1] + b"?")
    done = Copying(service.store, elsewhere).run()
    assert sorted(text.split()[0] for text in done.damaged) == sorted(
        [str(vocals), str(names.song_object(rotten.song_hash))]
    )
    assert elsewhere.stat(vocals) is None
    assert elsewhere.stat(names.song_object(rotten.song_hash)) is None
    assert Ledger(elsewhere).end(request.job_id) == service.ledger.end(request.job_id)


def test_documents_that_cannot_be_read_are_copied_as_they_are(service: Service, elsewhere: ObjectStore) -> None:
    request = service.submit(1)
    service.end(request, JobStatus.FAILED)
    for name in (names.request_object(request.job_id), names.outcome_object(request.job_id)):
        service.store.put(name, b"{damaged")
    Copying(service.store, elsewhere).run()
    assert Ledger(elsewhere).end(request.job_id) == service.ledger.end(request.job_id)


def test_stems_of_a_service_without_documents_and_songs_without_a_job_are_copied(
    service: Service, elsewhere: ObjectStore
) -> None:
    pushed, separated = names.hash_song(song(1)), names.hash_song(song(2))
    service.store.put(names.song_object(pushed), song(1))
    service.store.put(names.stem_object(separated, "vocals", "mp3"), b"vocals")
    assert Copying(service.store, elsewhere).run() == Copied(objects=2, size_bytes=len(song(1)) + 6)
    assert objects(elsewhere) == objects(service.store)


def test_a_copy_in_a_folder_keeps_each_stem_once(store: FileStore, backup: FileStore, tmp_path: Path) -> None:
    service = Service(store, tmp_path)
    request = service.submit(1)
    stem = service.separate(request).stems["vocals"]
    Copying(store, backup).run()
    one, another = (
        next((backup.root / OUTPUT_BUCKET).rglob(key.rpartition("/")[2]))
        for key in (stem.key, names.stem_object(request.job_id, "vocals", "mp3").key)
    )
    assert one.samefile(another)
