"""Copying: all that counts in one store, into another one: a backup, its way back, or a move.

A service may work on the source meanwhile, and the copy may break off anywhere: what the target has then is always a
store to start from. So of each song is read first how its jobs ended, then what they made, then what was asked for, and
at last the song; and it is written the other way round, but for the outcomes, which must not look older than their
requests. A job that was removed meanwhile is left out; one that ended meanwhile is still owed in the copy. Parts are
not copied, as they can be made again, nor what attempts left that did not win. Nobody else may write to the target.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby, repeat
from typing import Final

from unmix import names
from unmix.errors import InputError, ObjectMissingError, StoreError
from unmix.job import JobRequest
from unmix.ledger.documents import DAMAGE
from unmix.ledger.inventory import Inventory, StoredJob, StoredSong
from unmix.ledger.ledger import Ledger
from unmix.names import ObjectName
from unmix.outcome import Outcome
from unmix.store.protocol import ObjectInfo, ObjectStore
from unmix.store.transfer import DAMAGED, transfer

#: Songs that are copied at the same time: a store far away answers each call late.
SONGS_AT_ONCE: Final = 8
#: Most bytes of an object beside the songs that is compared byte by byte, not by its size.
_SMALL_BYTES: Final = 1 << 16


@dataclass(slots=True)
class Copied:
    """What a copy did, and what it found done."""

    jobs: int = 0  # of the source
    objects: int = 0  # that were copied
    size_bytes: int = 0  # of these
    same: int = 0  # objects that were there already
    surplus: int = 0  # jobs that the target alone has
    damaged: list[str] = field(default_factory=list)  # objects that are not what a document says: left out

    def add(self, other: "Copied") -> None:
        """Count what was done for one more song."""
        self.jobs += other.jobs
        self.objects += other.objects
        self.size_bytes += other.size_bytes
        self.same += other.same
        self.surplus += other.surplus
        self.damaged += other.damaged


@dataclass(frozen=True, slots=True)
class _Read:
    """The documents of a job, as its source had them; None is one that is not there."""

    listed_there: StoredJob  # what the target has of the job
    request: bytes | None
    outcome: bytes | None


class Copying:
    """Copies from one store into another, once per `run`; what is there already is not copied again.

    With `delete` jobs go that the target has and the source has not.
    """

    def __init__(self, source: ObjectStore, target: ObjectStore, *, delete: bool = False) -> None:
        self._source = source
        self._target = target
        self._delete = delete

    def run(self, on_step: Callable[[Copied], None] = lambda done: None) -> Copied:
        """Copy all of it; `on_step` gets what was done so far, after each song.

        Raises:
            StoreError: a store is away or refuses; what was copied until then need not be copied again.
            InputError: everything would be deleted, as there is nothing to copy (`nothing_to_copy`).
        """
        here, there = Inventory(self._source), Inventory(self._target)
        is_empty = next(here.songs(), None) is None  # asked first: no target is made of a source that is not there
        if is_empty and self._delete:
            raise InputError("there is no song to copy, and --delete would remove all", code="nothing_to_copy")
        self._target.prepare()
        done = Copied()
        for prefix in (names.ACCESS_PREFIX, names.UPLOADS_PREFIX):
            self._copy_under(prefix, done)
        for of_song in self._copy_songs(_joined(here.songs(), there.songs())):
            done.add(of_song)
            on_step(done)
        # At the end: a request that was written meanwhile had its mark before.
        marked = {mark.name for mark in there.open_marks()}
        for mark in here.open_marks():
            data = self._read(mark.name, self._source)
            self._put(mark.name, data, data if mark.name in marked else None, done)
        return done

    def _copy_under(self, prefix: str, done: Copied) -> None:
        """Copy what is not a song's: keys and secrets, and uploads."""
        there = {info.name: info for info in self._target.list(names.QUEUE_BUCKET, prefix)}
        for info in self._source.list(names.QUEUE_BUCKET, prefix):
            if info.size_bytes > _SMALL_BYTES:
                self._bring(info.name, info.size_bytes, there.get(info.name), done)
            else:
                known = self._read(info.name, self._target) if info.name in there else None
                self._put(info.name, self._read(info.name, self._source), known, done)

    def _copy_songs(self, songs: Iterator[tuple[StoredSong, StoredSong]]) -> Iterator[Copied]:
        pool = ThreadPoolExecutor(SONGS_AT_ONCE)
        under_way: deque[Future[Copied]] = deque()
        try:
            for here, there in songs:
                under_way.append(pool.submit(self._copy_song, here, there))
                if len(under_way) > SONGS_AT_ONCE:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _copy_song(self, here: StoredSong, there: StoredSong) -> Copied:
        done = Copied()
        jobs = {
            job.job_id: self._copy_files(job, there.jobs.get(job.job_id, StoredJob(job.job_id)), done)
            for job in here.jobs.values()
        }
        sha256 = next(filter(None, (_wanted_sha256(job.request) for job in jobs.values())), None)
        known = {info.name: info for info in (there.song, *there.retired) if info}
        for info in (here.song, *here.retired):
            if info is not None:
                self._bring(info.name, info.size_bytes, known.get(info.name), done, sha256=sha256)
        for job_id, job in jobs.items():
            self._write_documents(job_id, job, done)
        for known_job in there.jobs.values():
            read = jobs.get(known_job.job_id)
            if known_job.request is not None and (read is None or read.request is None):
                done.surplus += 1
                if self._delete:
                    Ledger(self._target).removal.remove_job(known_job.job_id)
        return done

    def _copy_files(self, here: StoredJob, there: StoredJob, done: Copied) -> _Read:
        """Copy what a job has made, and read its documents: the outcome before its files, and the request after them.

        So all that the outcome names was there when it was read, and is copied before it.
        """
        if here.request is None:
            if here.outcome is None and not here.attempts:  # a service of before there were documents made these
                for key in here.copies - there.copies:
                    self._bring(ObjectName(names.OUTPUT_BUCKET, key), None, None, done)
            return _Read(there, None, None)
        data = self._read(names.outcome_object(here.job_id), self._source)
        outcome = _outcome(data)
        if outcome is not None:
            known = {info.name.key: info for info in there.attempts}
            for file in outcome.files:
                name = ObjectName(names.OUTPUT_BUCKET, file.key)
                self._bring(name, file.size_bytes, known.get(file.key), done, sha256=file.sha256)
            is_known = there.outcome is not None and self._read(there.outcome.name, self._target) == data
            for stem, file in outcome.stems.items():
                copy = names.stem_object(here.job_id, stem, outcome.format)
                if not is_known or copy.key not in there.copies:
                    with suppress(ObjectMissingError):  # a stem that was removed stays removed
                        self._target.copy(ObjectName(names.OUTPUT_BUCKET, file.key), copy)
        return _Read(there, self._read(names.request_object(here.job_id), self._source), data)

    def _write_documents(self, job_id: str, job: _Read, done: Copied) -> None:
        """Let the target know of a job whose files it has; an outcome without a request would be taken for a rest."""
        if job.request is None:
            return
        done.jobs += 1
        request, outcome = names.request_object(job_id), names.outcome_object(job_id)
        known = self._read(outcome, self._target) if job.listed_there.outcome else None
        if known is not None and job.outcome is None:
            self._target.remove(outcome)  # one that cannot be read would end the job
        is_asked = self._read(request, self._target) if job.listed_there.request else None
        self._put(request, job.request, is_asked, done)
        self._put(outcome, job.outcome, known, done)

    def _bring(
        self,
        name: ObjectName,
        size_bytes: int | None,
        known: ObjectInfo | None,
        done: Copied,
        *,
        sha256: str | None = None,
    ) -> None:
        """Copy an object of any size, unless the target has one of its size: names are not used for other bytes."""
        if known is not None and known.size_bytes == size_bytes:
            done.same += 1
            return
        try:
            copied = transfer(name, self._source, self._target, sha256=sha256)
        except StoreError as error:
            if error.code != DAMAGED:
                raise
            done.damaged.append(error.message)
            return
        if copied is not None:
            done.objects += 1
            done.size_bytes += copied

    def _put(self, name: ObjectName, data: bytes | None, known: bytes | None, done: Copied) -> None:
        """Put a small object, unless the target has just these bytes."""
        if data is None:
            return
        if data == known:
            done.same += 1
            return
        self._target.put(name, data)
        done.objects += 1
        done.size_bytes += len(data)

    def _read(self, name: ObjectName, store: ObjectStore) -> bytes | None:
        """Return a small object, None if there is none any more."""
        try:
            return store.get(name)[0]
        except ObjectMissingError:
            return None


def _joined(source: Iterator[StoredSong], target: Iterator[StoredSong]) -> Iterator[tuple[StoredSong, StoredSong]]:
    """Yield each song as both stores list it, which may be as nothing."""
    listed = heapq.merge(zip(source, repeat("here")), zip(target, repeat("there")), key=_song_hash)
    for song_hash, pairs in groupby(listed, key=_song_hash):
        found = {where: stored for stored, where in pairs}
        yield found.get("here", StoredSong(song_hash)), found.get("there", StoredSong(song_hash))


def _song_hash(pair: tuple[StoredSong, str]) -> str:
    return pair[0].song_hash


def _outcome(data: bytes | None) -> Outcome | None:
    """Return an outcome, None if it cannot be read: what it names is not known then."""
    with suppress(*DAMAGE):
        return Outcome.from_json(data) if data else None
    return None


def _wanted_sha256(data: bytes | None) -> str | None:
    """Return the SHA-256 that the song of a request must have, if that is known."""
    with suppress(*DAMAGE):
        return JobRequest.from_json(data).wanted_sha256 if data else None
    return None
