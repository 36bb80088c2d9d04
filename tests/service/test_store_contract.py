"""What every home of the object store promises: the file store, an S3 server with conditional puts, one without."""

import hashlib
import io
import os
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from s3_servers import opened_store
from unmix.errors import ObjectChangedError, ObjectMissingError, StoreError
from unmix.names import ObjectName
from unmix.store.opening import open_store
from unmix.store.protocol import ObjectStore

MIB = 1 << 20
SONG = ObjectName("queue", "song.mp3")
OUTCOME = ObjectName("output", "job.json")

#: Keys in the order of their code points; sorted folder by folder, or by UTF-16, they would come out differently.
SORTED_KEYS = ["Z", "a b+c%41", "a-b", "a.b/c", "a/b", "a/b-c/d", "a/b/c", "ab", "ü/日本 語.mp3", "￮", "🎵"]
SORTED_KEYS.remove("a/b")  # beside a/b/c no folder could hold it

BAD_KEYS = ["", ".", "..", "../out", "a/../../out", "a/./b", "/out", "a//b", "a/", "a\0b", "a\nb", "\ud800", "x" * 256]
BAD_KEYS += ["/".join(["x" * 250] * 5)]


@pytest.fixture(params=["file", "moto", "rclone"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return opened_store(request.param, request, tmp_path)


#: The stores where `put_if` is atomic.
atomic = pytest.mark.parametrize("store", ["file", "moto"], indirect=True)


def keys_in(store: ObjectStore, bucket: str, prefix: str = "") -> list[str]:
    return [info.name.key for info in store.list(bucket, prefix)]


def put_if_refused(store: ObjectStore, name: ObjectName, data: bytes, etag: str | None) -> bool:
    try:
        store.put_if(name, data, etag=etag)
    except ObjectChangedError:
        return True
    return False


def test_a_small_object_comes_back_with_its_etag_and_size(store: ObjectStore) -> None:
    store.put(SONG, b"la la")
    data, etag = store.get(SONG)
    assert data == b"la la"
    info = store.stat(SONG)
    assert info is not None
    assert (info.name, info.size_bytes, info.etag) == (SONG, 5, etag)
    assert info.modified_at > 1_700_000_000


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 5 * MIB + 1, 20 * MIB])
def test_a_file_of_any_size_comes_back_whole(store: ObjectStore, tmp_path: Path, size: int) -> None:
    song = tmp_path / "song"
    song.write_bytes(os.urandom(size))
    store.put_file(SONG, song)
    store.get_file(SONG, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == song.read_bytes()
    with store.open(SONG) as stream:
        assert hashlib.sha256(stream.read()).digest() == hashlib.sha256(song.read_bytes()).digest()
    info = store.stat(SONG)
    assert info is not None
    assert info.size_bytes == size


def test_a_file_passes_in_constant_memory(store: ObjectStore, tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(os.urandom(20 * MIB))
    tracemalloc.start()
    try:
        store.put_file(SONG, song)
        store.get_file(SONG, tmp_path / "back")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 12 * MIB


class Breaking(io.BytesIO):
    """A stream that breaks off at its end."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() == len(self.getvalue()):
            raise StoreError("broken off")
        return data


@pytest.mark.parametrize("size", [1, 6 * MIB])
def test_a_stream_is_put_whole_or_not_at_all(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    with pytest.raises(StoreError, match="broken off"):
        store.put_stream(SONG, Breaking(data), size)
    assert store.stat(SONG) is None
    store.put_stream(SONG, io.BytesIO(data), size)
    assert store.get(SONG)[0] == data


def test_an_object_can_be_read_in_part(store: ObjectStore) -> None:
    store.put(SONG, b"x" * MIB + b"rest")
    with store.open(SONG) as stream:
        assert stream.read(3) == b"xxx"
        assert stream.read(MIB) == b"x" * (MIB - 3) + b"res"
    assert store.get(SONG)[0].endswith(b"rest")  # leaving early harms nobody


@pytest.mark.parametrize(
    "key", ["ü/日本 語/🎵.mp3", "a b+c%41&d=e?f#g;h.json", "'\"<>!$(),[]{}|^~`*@:", "x" * 255, ".hidden/.probe"]
)
def test_any_decent_key_works_everywhere(store: ObjectStore, key: str) -> None:
    name, copy = ObjectName("output", key), ObjectName("queue", key)
    store.put(name, b"here")
    store.copy(name, copy)
    assert store.get(copy)[0] == b"here"
    assert keys_in(store, "output") == [key]
    assert keys_in(store, "output", key[:3]) == [key]
    store.remove(name)
    assert store.stat(name) is None


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_leads_astray_is_refused_alike_everywhere(store: ObjectStore, tmp_path: Path, key: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    name = ObjectName("queue", key)
    local = tmp_path / "local"
    calls: list[Callable[[], object]] = [
        lambda: store.put(name, b"x"),
        lambda: store.put_if(name, b"x", etag=None),
        lambda: store.get(name),
        lambda: store.get_file(name, local),
        lambda: store.open(name),
        lambda: store.stat(name),
        lambda: store.copy(name, SONG),
        lambda: store.remove(name),
    ]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        assert (caught.value.code, caught.value.retryable) == ("bad_object_name", False)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("bucket", ["", "..", "a/b", ".tmp", "Queue"])
def test_a_bucket_that_leads_astray_is_refused(store: ObjectStore, bucket: str) -> None:
    for call in (lambda: store.stat(ObjectName(bucket, "x")), lambda: list(store.list(bucket))):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.code == "bad_object_name"


def test_a_put_replaces_what_was_there(store: ObjectStore) -> None:
    store.put(SONG, b"a long first version")
    store.put(SONG, b"short")
    assert store.get(SONG)[0] == b"short"


def test_an_etag_changes_whenever_the_bytes_do(store: ObjectStore) -> None:
    etags = set()
    for count in range(40):
        store.put(SONG, f"{count:03}".encode())
        etags.add(store.get(SONG)[1])
    assert len(etags) == 40


def test_what_is_missing_is_said_to_be_missing(store: ObjectStore, tmp_path: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.get(SONG),
        lambda: store.open(SONG),
        lambda: store.get_file(SONG, tmp_path / "song"),
        lambda: store.copy(SONG, OUTCOME),
    ]
    for call in calls:
        with pytest.raises(ObjectMissingError):
            call()
    assert store.stat(SONG) is None
    assert store.stat(OUTCOME) is None


def test_a_failed_download_leaves_the_folder_as_it_was(store: ObjectStore, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "song").write_bytes(b"earlier")
    with pytest.raises(ObjectMissingError):
        store.get_file(SONG, scratch / "song")
    assert [(path.name, path.read_bytes()) for path in scratch.iterdir()] == [("song", b"earlier")]


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_store(store: ObjectStore, tmp_path: Path) -> None:
    store.put(SONG, b"la la")
    with pytest.raises(FileNotFoundError):
        store.get_file(SONG, tmp_path / "nowhere" / "song")


def test_removing_can_be_repeated(store: ObjectStore) -> None:
    store.put(SONG, b"la la")
    store.remove(SONG)
    store.remove(SONG)
    assert store.stat(SONG) is None


def test_a_prepared_store_is_empty_and_can_be_prepared_again(store: ObjectStore) -> None:
    assert [*store.list("queue"), *store.list("output")] == []
    store.put(SONG, b"la la")
    store.prepare()
    assert keys_in(store, "queue") == ["song.mp3"]


def test_a_listing_is_sorted_by_code_point_and_complete(store: ObjectStore) -> None:
    for key in reversed(SORTED_KEYS):
        store.put(ObjectName("output", key), key.encode())
    found = list(store.list("output"))
    assert [info.name.key for info in found] == SORTED_KEYS
    assert [info.size_bytes for info in found] == [len(key.encode()) for key in SORTED_KEYS]
    assert [info.etag for info in found] == [store.get(info.name)[1] for info in found]
    assert list(store.list("queue")) == []


@pytest.mark.parametrize("prefix", ["a", "a/", "a/b", "a/b/", "a/b/c", "ab/", "🎵", "nothing"])
def test_a_listing_can_be_narrowed_by_any_prefix(store: ObjectStore, prefix: str) -> None:
    for key in SORTED_KEYS:
        store.put(ObjectName("output", key), b"x")
    assert keys_in(store, "output", prefix) == [key for key in SORTED_KEYS if key.startswith(prefix)]


@pytest.mark.parametrize("store", ["moto", "rclone"], indirect=True)
def test_a_listing_of_several_pages_is_complete(store: ObjectStore) -> None:
    keys = [f"{number:04}" for number in range(1050)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(ObjectName("output", key), b"x"), keys))
    assert keys_in(store, "output") == keys


def test_a_copy_has_the_bytes_and_then_lives_its_own_life(store: ObjectStore) -> None:
    store.put(SONG, b"first")
    store.put(OUTCOME, b"in the way")
    store.copy(SONG, OUTCOME)
    store.copy(SONG, OUTCOME)  # anyone may repeat it
    assert store.get(OUTCOME)[0] == b"first"
    store.put(SONG, b"second")
    assert store.get(OUTCOME)[0] == b"first"
    store.remove(SONG)
    assert store.get(OUTCOME)[0] == b"first"


def test_a_file_of_several_parts_can_be_copied(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(os.urandom(6 * MIB))
    store.put_file(SONG, tmp_path / "song")
    store.copy(SONG, OUTCOME)
    store.get_file(OUTCOME, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "song").read_bytes()


def test_create_only_creates_once(store: ObjectStore) -> None:
    store.put_if(OUTCOME, b"first", etag=None)
    assert put_if_refused(store, OUTCOME, b"second", None)
    assert store.get(OUTCOME)[0] == b"first"
    store.remove(OUTCOME)
    store.put_if(OUTCOME, b"third", etag=None)
    assert store.get(OUTCOME)[0] == b"third"


def test_an_object_is_replaced_only_while_its_etag_holds(store: ObjectStore) -> None:
    store.put(OUTCOME, b"first")
    _, etag = store.get(OUTCOME)
    store.put_if(OUTCOME, b"other", etag=etag)
    assert store.get(OUTCOME)[0] == b"other"
    assert put_if_refused(store, OUTCOME, b"third", etag)
    assert store.get(OUTCOME)[0] == b"other"
    store.remove(OUTCOME)
    assert put_if_refused(store, OUTCOME, b"fourth", etag)
    assert store.stat(OUTCOME) is None


@atomic
def test_of_many_who_create_at_once_exactly_one_succeeds(store: ObjectStore) -> None:
    assert store.conditional_puts
    contestants = 8
    with ThreadPoolExecutor(contestants) as threads:
        for contest in range(20):
            name = ObjectName("output", f"{contest}.json")
            start = threading.Barrier(contestants)

            def create(number: int, name: ObjectName = name, start: threading.Barrier = start) -> bool:
                start.wait()
                return not put_if_refused(store, name, b"%d" % number, None)

            won = list(threads.map(create, range(contestants)))
            assert won.count(True) == 1
            assert store.get(name)[0] == b"%d" % won.index(True)


@atomic
def test_no_update_is_lost_among_many_who_replace_by_etag(store: ObjectStore) -> None:
    store.put(OUTCOME, b"0")

    def count_to_ten(_: int) -> None:
        for _ in range(10):
            while True:
                data, etag = store.get(OUTCOME)
                if not put_if_refused(store, OUTCOME, b"%d" % (int(data) + 1), etag):
                    break

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count_to_ten, range(4)))
    assert store.get(OUTCOME)[0] == b"40"


@pytest.mark.parametrize(
    ("url", "what"), [("ftp://host", "ftp"), ("s3://", "s3://"), ("/just/a/path", "path"), ("s3://host/bucket", "host")]
)
def test_a_url_that_names_no_store_is_refused_with_a_hint(url: str, what: str) -> None:
    with pytest.raises(StoreError, match=what) as caught:
        open_store(url, access_key="", secret_key="")
    assert (caught.value.code, caught.value.retryable) == ("unknown_store", False)
