"""The file store among crashing, racing processes, full disks and file systems that lack something."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support import eventually, song_hash_number
from unmix.errors import ObjectChangedError, ObjectMissingError, StoreError
from unmix.names import ObjectName
from unmix.store import file as file_store
from unmix.store.file import FileStore
from unmix.store.opening import open_store

MIB = 1 << 20
SONG = ObjectName("queue", "song.mp3")
OUTCOME = ObjectName("output", "job.json")

#: Writes what comes through a pipe, so that the test decides how far the writer gets.
WRITER = """
import sys
from pathlib import Path
from unmix.names import ObjectName
from unmix.store.file import FileStore

FileStore(Path(sys.argv[1])).put_file(ObjectName("queue", "song.mp3"), Path(sys.argv[2]))
"""

#: Tries to create 50 objects and says which ones it created; starts when it is told to.
CONTESTANT = """
import sys
from pathlib import Path
from unmix.errors import ObjectChangedError
from unmix.names import ObjectName
from unmix.store.file import FileStore

store = FileStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for contest in range(50):
    try:
        store.put_if(ObjectName("output", f"{contest}/outcome.json"), sys.argv[2].encode(), etag=None)
        print(contest)
    except ObjectChangedError:
        pass
"""


@pytest.fixture
def old(store: FileStore) -> bytes:
    """What `SONG` holds already."""
    store.put(SONG, b"old")
    return b"old"


@pytest.fixture
def half_written(store: FileStore, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that hangs in the middle of writing `SONG`."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(store.root), str(pipe)])
    try:
        with pipe.open("wb") as source:
            source.write(b"new" * MIB)
            source.flush()
            eventually(lambda: any(file.stat().st_size >= MIB for file in files_under(store.root)), "half is written")
            yield process
    finally:
        process.kill()
        process.wait()


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_reader_sees_nothing_of_an_object_that_is_being_written(
    store: FileStore, half_written: subprocess.Popen[bytes]
) -> None:
    assert store.stat(SONG) is None
    assert list(store.list("queue")) == []
    half_written.kill()
    half_written.wait()
    with pytest.raises(ObjectMissingError):
        store.get(SONG)


def test_a_writer_killed_half_way_leaves_the_old_object(
    store: FileStore, old: bytes, half_written: subprocess.Popen[bytes]
) -> None:
    half_written.kill()
    half_written.wait()
    assert store.get(SONG)[0] == old
    assert [info.name.key for info in store.list("queue")] == ["song.mp3"]


def test_what_a_killed_writer_left_is_cleaned_up_after_an_hour(
    store: FileStore, half_written: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    half_written.kill()
    half_written.wait()
    store.prepare()
    assert len(files_under(store.root)) == 1  # it might still be at work
    monkeypatch.setattr(file_store, "LEFTOVER_SECONDS", -1.0)
    store.prepare()
    assert files_under(store.root) == []


def test_nothing_temporary_stays_behind(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "song").write_bytes(b"la la")
    store.put_file(SONG, tmp_path / "song")
    store.copy(SONG, OUTCOME)
    store.copy(SONG, OUTCOME)  # onto a link to the same file: renaming would leave both names
    with pytest.raises(ObjectChangedError):
        store.put_if(OUTCOME, b"x", etag=None)
    with pytest.raises(ObjectChangedError):
        store.put_if(OUTCOME, b"x", etag="another")
    assert sorted(files_under(store.root)) == [store.root / "output/job.json", store.root / "queue/song.mp3"]


def test_among_processes_each_contest_has_exactly_one_winner(store: FileStore) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONTESTANT, str(store.root), f"process {number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [process.communicate()[0].split() for process in processes]
    assert sorted(int(contest) for contests in won for contest in contests) == list(range(50))
    for number, contests in enumerate(won):
        for contest in contests:
            assert store.get(ObjectName("output", f"{contest}/outcome.json"))[0] == b"process %d" % number


@pytest.mark.parametrize("act", ["put", "copy", "remove"])
def test_what_comes_between_the_look_and_the_replacement_is_not_undone(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """A thread is held after it has found the etag unchanged, while another one changes the object."""
    store.put(OUTCOME, b"first")
    store.put(SONG, b"the other's")
    _, etag = store.get(OUTCOME)
    looked, acted = threading.Event(), threading.Event()
    real_replace = os.replace

    def held_replace(source: Path, target: Path) -> None:
        if threading.current_thread() is replacer:
            looked.set()
            acted.wait(0.5)  # the other one cannot act before we are through, unless nothing holds it
        real_replace(source, target)

    monkeypatch.setattr(os, "replace", held_replace)
    replacer = threading.Thread(target=lambda: store.put_if(OUTCOME, b"mine", etag=etag))
    replacer.start()
    looked.wait()
    if act == "put":
        store.put(OUTCOME, b"the other's")
    elif act == "copy":
        store.copy(SONG, OUTCOME)
    else:
        store.remove(OUTCOME)
    acted.set()
    replacer.join()
    if act == "remove":
        assert store.stat(OUTCOME) is None
    else:
        assert store.get(OUTCOME)[0] == b"the other's"


def test_a_folder_that_empties_does_not_take_a_newcomer_with_it(store: FileStore) -> None:
    errors: list[Exception] = []

    def come_and_go(key: str) -> None:
        name = ObjectName("output", f"deep/er/{key}")
        try:
            for _ in range(50):
                store.put_if(name, b"x", etag=None)
                store.remove(name)
        except Exception as error:  # whatever it is, the test must hear of it
            errors.append(error)

    threads = [threading.Thread(target=come_and_go, args=(key,)) for key in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list((store.root / "output").iterdir()) == []


def test_several_processes_may_prepare_one_store(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def prepare() -> None:
        try:
            FileStore(tmp_path / "new" / "store").prepare()
        except Exception as error:  # whatever it is, the test must hear of it
            errors.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_relative_folder_stays_where_it_was_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("file://.unmix/store", access_key="", secret_key="")
    store.prepare()
    store.put(SONG, b"la la")
    monkeypatch.chdir("/")
    assert store.get(SONG)[0] == b"la la"
    assert (tmp_path / ".unmix/store/queue/song.mp3").read_bytes() == b"la la"


def test_an_object_is_stamped_by_the_clock_to_the_nanosecond(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The etag rests on it: kernels stamp files more coarsely, and ext4, unlike XFS, would not show it."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_789)
    store.put(SONG, b"la la")
    assert (store.root / "queue/song.mp3").stat().st_mtime_ns == 1_700_000_000_123_456_789


def test_a_copy_takes_no_room_on_disk(store: FileStore) -> None:
    store.put(SONG, b"la la")
    store.copy(SONG, OUTCOME)
    assert (store.root / "output/job.json").samefile(store.root / "queue/song.mp3")


def test_a_file_system_without_hard_links_will_do(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    store.put_if(SONG, b"la la", etag=None)
    with pytest.raises(ObjectChangedError):
        store.put_if(SONG, b"other", etag=None)
    store.copy(SONG, OUTCOME)
    store.remove(SONG)
    assert store.get(OUTCOME)[0] == b"la la"
    assert files_under(store.root) == [store.root / "output/job.json"]


def test_an_object_being_read_can_be_replaced_and_removed(store: FileStore) -> None:
    store.put(SONG, b"x" * MIB + b"old")
    with store.open(SONG) as stream:
        stream.read(1)
        store.put(SONG, b"new")
        store.remove(SONG)
        assert stream.read().endswith(b"old")


@pytest.mark.parametrize(("there", "wanted"), [("a", "a/b"), ("a", "a/b/c"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_a_key_that_needs_a_folder_where_a_file_is_gets_a_clear_error(
    store: FileStore, there: str, wanted: str
) -> None:
    name, other = ObjectName("output", wanted), ObjectName("output", there)
    store.put(other, b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.put(name, b"y"),
        lambda: store.put_if(name, b"y", etag=None),
        lambda: store.copy(other, name),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="beside what is there") as caught:
            call()
        assert (caught.value.code, caught.value.retryable) == ("bad_object_name", False)
    with pytest.raises(ObjectMissingError):
        store.get(name)
    assert store.stat(name) is None
    store.remove(name)
    assert [info.name.key for info in store.list("output")] == [there]


@pytest.mark.parametrize(
    ("number", "code", "retryable"),
    [
        (errno.ENOSPC, "store_full", True),
        (errno.EDQUOT, "store_full", True),
        (errno.EROFS, "store_read_only", False),
        (errno.EACCES, "store_read_only", False),
        (errno.EIO, "store_unavailable", True),
    ],
)
def test_a_disk_that_refuses_a_write_leaves_the_old_object_and_says_why(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, number: int, code: str, retryable: bool
) -> None:
    store.put(SONG, b"old")

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match=os.strerror(number)) as caught:
            store.put(SONG, b"new")
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert store.get(SONG)[0] == b"old"
    assert files_under(store.root) == [store.root / "queue/song.mp3"]


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError) as caught:
        FileStore(store.root).prepare()
    assert caught.value.code == "store_read_only"


def test_a_disk_that_vanished_does_not_look_like_a_store_without_songs(store: FileStore) -> None:
    store.put(SONG, b"la la")
    store.root.rename(store.root.with_name("elsewhere"))
    calls: list[Callable[[], object]] = [
        lambda: store.get(SONG),
        lambda: store.stat(SONG),
        lambda: list(store.list("queue")),
        lambda: store.put(SONG, b"x"),
    ]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        assert not isinstance(caught.value, ObjectMissingError)
        assert caught.value.retryable
    assert not store.root.exists()


HASH = song_hash_number(1)
OTHER_HASH = song_hash_number(2)


def put_by_an_earlier_version(store: FileStore, bucket: str, key: str, data: bytes) -> Path:
    """Put an object where all objects lay at first: below the bucket, under the key itself."""
    path = store.root / bucket / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_song_is_looked_up_without_a_look_at_the_others(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        store.put(ObjectName("output", f"{song_hash_number(number)}.json"), b"outcome")
        store.put(ObjectName("output", f"{song_hash_number(number)}/t1/vocals.mp3"), b"stem")
    looked_into: list[Path] = []
    scandir = os.scandir

    def watched(folder: Path) -> Any:
        looked_into.append(Path(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", watched)
    assert [info.name.key for info in store.list("output", HASH)] == [f"{HASH}.json", f"{HASH}/t1/vocals.mp3"]
    assert all(HASH in str(folder) for folder in looked_into), looked_into


def test_a_prefix_with_a_folder_in_it_goes_straight_there(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("open/a", "open/b", "other/c", f"{HASH}.mp3"):
        store.put(ObjectName("queue", key), b"x")
    looked_into: list[Path] = []
    scandir = os.scandir

    def watched(folder: Path) -> Any:
        looked_into.append(Path(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", watched)
    assert [info.name.key for info in store.list("queue", "open/")] == ["open/a", "open/b"]
    assert looked_into == [store.root / "queue" / "open"]


def test_a_folder_of_an_earlier_version_is_moved_over_and_loses_nothing(store: FileStore) -> None:
    keys = [f"{HASH}.json", f"{HASH}-vocals.mp3", f"{HASH}/t1/vocals.mp3", f"{HASH}.01234567.json", "notes.txt"]
    for key in keys:
        put_by_an_earlier_version(store, "output", key, key.encode())
    before = {info.name.key: (info.etag, info.modified_at) for info in store.list("output")}
    assert sorted(before) == sorted(keys)
    FileStore(store.root).prepare()
    assert {info.name.key: (info.etag, info.modified_at) for info in store.list("output")} == before
    for key in keys:
        assert store.get(ObjectName("output", key))[0] == key.encode()
    assert [info.name.key for info in store.list("output", HASH)] == sorted(keys)[:-1]
    assert sorted(path.name for path in (store.root / "output").iterdir()) == [HASH[:2], "notes.txt"]


def test_an_object_that_somebody_puts_there_by_hand_is_found(store: FileStore) -> None:
    """As a producer of the old contract may do with a song whose hash it pushes."""
    put_by_an_earlier_version(store, "queue", f"{HASH}.mp3", b"a song")
    assert store.stat(ObjectName("queue", f"{OTHER_HASH}.mp3")) is None
    assert store.get(ObjectName("queue", f"{HASH}.mp3"))[0] == b"a song"
    assert [info.name.key for info in store.list("queue", HASH)] == [f"{HASH}.mp3"]


def test_several_processes_that_start_together_move_a_folder_over(store: FileStore) -> None:
    hashes = [song_hash_number(number) for number in range(200)]
    for song_hash in hashes:
        put_by_an_earlier_version(store, "queue", f"{song_hash}.mp3", song_hash.encode())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: FileStore(store.root).prepare(), range(4)))
    for song_hash in hashes:
        assert [info.name.key for info in store.list("queue", song_hash)] == [f"{song_hash}.mp3"]
        assert store.get(ObjectName("queue", f"{song_hash}.mp3"))[0] == song_hash.encode()


def test_keys_of_all_kinds_are_listed_in_one_order(store: FileStore) -> None:
    keys = ["0", "00/x", f"{HASH}.mp3", f"{HASH}.json", f"{HASH[:2]}/x", f"{OTHER_HASH}/a/b", "open/x", "z"]
    for key in keys:
        store.put(ObjectName("output", key), b"x")
    for prefix in ("", "0", HASH[:1], HASH[:2], f"{HASH[:2]}/", HASH[:30], HASH, f"{HASH}.m", "o", "open/", "none"):
        listed = [info.name.key for info in store.list("output", prefix)]
        assert listed == sorted(key for key in keys if key.startswith(prefix)), prefix


def test_no_key_may_lie_among_the_objects_of_a_song(store: FileStore) -> None:
    with pytest.raises(StoreError) as refused:
        store.put(ObjectName("output", f"{HASH[:2]}/{HASH}/x"), b"x")
    assert refused.value.code == "bad_object_name"


def test_what_lies_in_its_place_wins_over_what_was_put_by_an_earlier_version(store: FileStore) -> None:
    store.put(ObjectName("output", f"{HASH}.json"), b"new")
    old = put_by_an_earlier_version(store, "output", f"{HASH}.json", b"old")
    FileStore(store.root).prepare()
    assert store.get(ObjectName("output", f"{HASH}.json"))[0] == b"new"
    assert not old.exists()


def test_nothing_is_created_over_or_left_of_an_object_that_lies_at_the_old_place(store: FileStore) -> None:
    name = ObjectName("output", f"{HASH}.json")
    put_by_an_earlier_version(store, "output", name.key, b"old")
    with pytest.raises(ObjectChangedError):
        store.put_if(name, b"new", etag=None)
    assert store.get(name)[0] == b"old"
    put_by_an_earlier_version(store, "output", f"{OTHER_HASH}.json", b"old")
    store.remove(ObjectName("output", f"{OTHER_HASH}.json"))
    assert store.stat(ObjectName("output", f"{OTHER_HASH}.json")) is None


def test_a_link_to_a_song_elsewhere_still_leads_there_after_the_move(store: FileStore) -> None:
    (store.root.parent / "music.mp3").write_bytes(b"a song")
    (store.root / "queue" / f"{HASH}.mp3").symlink_to("../../music.mp3")
    FileStore(store.root).prepare()
    assert store.get(ObjectName("queue", f"{HASH}.mp3"))[0] == b"a song"
