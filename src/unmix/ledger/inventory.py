"""The inventory: what the store lists, song by song, and which jobs are marked as open. Reads no document."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from unmix import names
from unmix.store.protocol import ObjectInfo, ObjectStore


@dataclass(slots=True)
class StoredJob:
    """What the store lists of one job."""

    job_id: str
    request: ObjectInfo | None = None
    outcome: ObjectInfo | None = None
    attempts: list[ObjectInfo] = field(default_factory=list)  # their stems
    parts: list[ObjectInfo] = field(default_factory=list)  # their files and documents
    copies: set[str] = field(default_factory=set)  # keys of the contract's names


@dataclass(slots=True)
class StoredSong:
    """What the store lists of one song and its jobs."""

    song_hash: str
    song: ObjectInfo | None = None
    retired: list[ObjectInfo] = field(default_factory=list)
    jobs: dict[str, StoredJob] = field(default_factory=dict)

    def job(self, job_id: str) -> StoredJob:
        """Return what is listed of a job, which may be nothing."""
        return self.jobs.setdefault(job_id, StoredJob(job_id))


class Inventory:
    """The listings of one store. Every method raises `StoreError` when the store is away."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def songs(self) -> Iterator[StoredSong]:
        """Yield all that both buckets list, song by song, in constant memory: listings are read as they are used."""
        listings = (self._store.list(bucket) for bucket in (names.QUEUE_BUCKET, names.OUTPUT_BUCKET))
        ours = ((info for info in listing if names.owner_of(info.name) is not None) for listing in listings)
        for song_hash, infos in groupby(heapq.merge(*ours, key=_song_hash), key=_song_hash):
            yield _stored(song_hash, infos)

    def song(self, song_hash: str) -> StoredSong:
        """Return what is listed of one song."""
        listings = (self._store.list(bucket, song_hash) for bucket in (names.QUEUE_BUCKET, names.OUTPUT_BUCKET))
        return _stored(song_hash, (info for listing in listings for info in listing))

    def open_marks(self) -> Iterator[ObjectInfo]:
        """Yield the open marks, sorted by job id."""
        for info in self._store.list(names.QUEUE_BUCKET, names.OPEN_PREFIX):
            if names.is_job_id(marked_job(info)):
                yield info


def marked_job(mark: ObjectInfo) -> str:
    """Return the id of the job that a mark is for."""
    return mark.name.key.removeprefix(names.OPEN_PREFIX)


def _song_hash(info: ObjectInfo) -> str:
    return info.name.key[: names.SONG_HASH_LENGTH]


def _stored(song_hash: str, infos: Iterator[ObjectInfo]) -> StoredSong:
    stored = StoredSong(song_hash)
    for info in infos:
        _file_under(stored, info)
    return stored


def _file_under(stored: StoredSong, info: ObjectInfo) -> None:
    """Note one listed object with the song or job that it belongs to."""
    key = info.name.key
    job_id = names.owner_of(info.name)
    if job_id is None:
        return
    if info.name == names.song_object(stored.song_hash):
        stored.song = info
    elif info.name.bucket == names.QUEUE_BUCKET and key.startswith(names.song_object(stored.song_hash).key):
        stored.retired.append(info)
    elif info.name == names.request_object(job_id):
        stored.job(job_id).request = info
    elif info.name == names.outcome_object(job_id):
        stored.job(job_id).outcome = info
    elif key.startswith(names.parts_prefix(job_id)):
        stored.job(job_id).parts.append(info)
    elif key.startswith(names.attempt_prefix(job_id)):
        stored.job(job_id).attempts.append(info)
    else:
        stored.job(job_id).copies.add(key)
