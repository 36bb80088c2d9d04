"""The ledger: requests and outcomes as documents in the object store.

A request that has no outcome of its own generation is owed; the first outcome committed for a generation ends it.
The commit is one compare-and-swap, so that of two workers who both believe they own a job exactly one wins and the
other adopts what stands there. Songs and stems are plain objects beside the documents.

What is removed here may be submitted anew at the same moment. So files are listed before the documents are read that
condemn them, and a song that is about to go is only set aside until the requests have been read once more.
"""

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Final, Protocol, TypeVar

from unmix import names
from unmix.errors import InputError, ObjectChangedError, ObjectMissingError, StoreError, SupersededError
from unmix.job import Delivery, JobRequest, JobStatus, Outcome, StemFile
from unmix.store.protocol import ObjectInfo, ObjectStore

Document = TypeVar("Document", JobRequest, Outcome)
Wanted = TypeVar("Wanted", JobRequest, JobRequest | None)

#: Callbacks of one job, so that posting a song again and again does not make its request grow for ever.
MAX_CALLBACKS: Final = 16


def utc_now() -> str:
    """Return the present time as ISO 8601 in UTC, for documents that people read."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class CommitGuard(Protocol):
    """Decides who was first, for stores that cannot: `unmix.queue.job_queue.JobQueue` does."""

    def first_commit(self, job_id: str, generation: str, data: bytes) -> bytes:
        """Return the first `data` that was given for this generation of the job."""


@dataclass(slots=True)
class StoredJob:
    """What the store lists of one job."""

    job_id: str
    request: ObjectInfo | None = None
    outcome: ObjectInfo | None = None
    attempts: list[ObjectInfo] = field(default_factory=list)  # their stems
    copies: set[str] = field(default_factory=set)  # keys of the contract's names


@dataclass(slots=True)
class StoredSong:
    """What the store lists of one song and its jobs."""

    song_hash: str
    song: ObjectInfo | None = None
    retired: list[ObjectInfo] = field(default_factory=list)
    jobs: dict[str, StoredJob] = field(default_factory=dict)


class Ledger:
    """The documents of one object store. Every method raises `StoreError` when the store is away.

    A `guard` makes commits safe where the store ignores conditional puts; then they raise its errors too.
    """

    def __init__(self, store: ObjectStore, guard: CommitGuard | None = None) -> None:
        self.store = store
        self._guard = guard

    def request(self, job_id: str) -> JobRequest | None:
        """Return the request of a job, None if there is none."""
        return self._request(job_id)[0]

    def outcome(self, request: JobRequest) -> Outcome | None:
        """Return how `request` ended, None while it is owed. An outcome of another generation counts as none."""
        outcome, _ = self._outcome(request.job_id)
        return outcome if outcome is not None and outcome.generation == request.generation else None

    def end(self, job_id: str) -> tuple[JobRequest | None, Outcome | None]:
        """Return the request of a job, and how it ended."""
        request = self.request(job_id)
        return request, self.outcome(request) if request else None

    def adopt(self, request: JobRequest) -> JobRequest:
        """Write the request of a foreign push, or return the one that is there already."""
        return self._swap_request(request.job_id, lambda known: known or request)

    def accept(self, request: JobRequest) -> tuple[JobRequest, bool]:
        """Write a new submission, or join the one that is owed or done with the same result.

        Returns the request that counts now, and whether it is the given one. When it joins, the given callbacks are
        added to the earlier request's.

        Raises:
            InputError: the request would have more than `MAX_CALLBACKS` (`too_many_callbacks`).
        """

        def join_or_replace(known: JobRequest | None) -> JobRequest:
            if known is None or not self._serves(known, request):
                return request
            for callback in request.callbacks:
                if callback not in known.callbacks:
                    known = known.with_callback(callback)
            if len(known.callbacks) > MAX_CALLBACKS:
                raise InputError("this job has callbacks enough", code="too_many_callbacks")
            return known

        accepted = self._swap_request(request.job_id, join_or_replace)
        return accepted, accepted.generation == request.generation

    def retry(self, job_id: str) -> JobRequest | None:
        """Submit a failed or cancelled job anew; its request as it stands if it is neither, None if there is none."""

        def renew(known: JobRequest | None) -> JobRequest | None:
            outcome = self.outcome(known) if known else None
            if known and outcome and outcome.status in (JobStatus.FAILED, JobStatus.CANCELLED):
                return known.again(utc_now())
            return known

        return self._swap_request(job_id, renew)

    def commit(self, outcome: Outcome) -> Outcome:
        """Commit how a job ended, once per generation, and return the outcome that counts: the first one.

        Raises:
            SupersededError: the job was removed or submitted anew meanwhile; nothing was written.
        """
        while True:
            # The order matters: a request read after the outcome is at least as new as what is swapped out.
            standing, etag = self._outcome(outcome.job_id)
            request = self.request(outcome.job_id)
            if request is None or request.generation != outcome.generation:
                raise SupersededError(f"{outcome.job_id} was removed or submitted anew")
            if standing is not None and standing.generation == outcome.generation:
                return standing
            if self._guard is not None and not self.store.conditional_puts:
                data = self._guard.first_commit(outcome.job_id, outcome.generation, outcome.to_json())
                self.store.put(names.outcome_object(outcome.job_id), data)
                return Outcome.from_json(data)
            try:
                self.store.put_if(names.outcome_object(outcome.job_id), outcome.to_json(), etag=etag)
            except ObjectChangedError:
                continue  # somebody else was faster: look again
            return outcome

    def note_delivery(self, job_id: str, generation: str, index: int, delivery: Delivery) -> None:
        """Write into the outcome how the delivery of callback number `index` ended."""
        while True:
            outcome, etag = self._outcome(job_id)
            if outcome is None or outcome.generation != generation:
                return  # removed or submitted anew
            noted = replace(outcome, deliveries={**outcome.deliveries, str(index): delivery})
            with suppress(ObjectChangedError):
                self.store.put_if(names.outcome_object(job_id), noted.to_json(), etag=etag)
                return

    def publish(self, outcome: Outcome) -> None:
        """Copy the stems of a done job to the names that the contract knows. Can be repeated by anyone, at any time.

        Whoever slept over this may write over newer copies; so the outcome is read once more after it.
        """
        while True:
            for stem, file in outcome.stems.items():
                source = names.ObjectName(names.OUTPUT_BUCKET, file.key)
                with suppress(ObjectMissingError):  # a stem that was removed since stays removed
                    self.store.copy(source, names.stem_object(outcome.job_id, stem, outcome.format))
            request, standing = self.end(outcome.job_id)
            if request is None:  # the job was removed meanwhile: its copies must not outlive it
                self._remove_copies(outcome)
                return
            if standing is None or standing.token == outcome.token:
                return
            outcome = standing

    def discard(self, stems: Mapping[str, StemFile]) -> None:
        """Remove the files of an attempt that did not win."""
        for file in stems.values():
            self.store.remove(names.ObjectName(names.OUTPUT_BUCKET, file.key))

    def remove_stem(self, request: JobRequest, outcome: Outcome, stem: str) -> None:
        """Remove one stem of a done job: its file and its copy."""
        self.store.remove(names.stem_object(request.job_id, stem, outcome.format))
        self.store.remove(names.ObjectName(names.OUTPUT_BUCKET, outcome.stems[stem].key))

    def remove_job(self, job_id: str) -> None:
        """Remove all that is stored of a job; the request first, so that nothing here becomes owed again."""
        ended = names.outcome_object(job_id)
        listed = [info.name for info in self.store.list(names.OUTPUT_BUCKET, job_id) if info.name != ended]
        self.store.remove(names.request_object(job_id))
        outcome, _ = self._outcome(job_id)  # until here a worker could commit one
        self.retire_song(names.song_hash_of(job_id), keep_for_jobs=True)
        self.store.remove(ended)
        if outcome:
            self._remove_copies(outcome)
        for name in listed:
            if names.owner_of(name) == job_id:
                self.store.remove(name)

    def retire_song(self, song_hash: str, *, keep_for_jobs: bool = False) -> bool:
        """Remove a song that no job owes, or with `keep_for_jobs` that no job has any request for; False if one does.

        A job may be accepted between the look at the requests and the removal, and would lose its song. So the song is
        set aside, the requests are read again, and it is put back if one came. Whoever accepts a job looks after that
        whether its song is there, and stores it again if not.
        """
        song_name, retired = names.song_object(song_hash), names.retired_object(song_hash, time.time_ns())
        if self.is_needed(song_hash, keep_for_jobs=keep_for_jobs):
            return False
        try:
            self.store.copy(song_name, retired)
        except ObjectMissingError:
            return True  # gone already; one that comes from here on could not be put back
        self.store.remove(song_name)
        needed = self.restore_song(song_hash, retired, keep_for_jobs=keep_for_jobs)
        self.store.remove(retired)
        return not needed

    def restore_song(self, song_hash: str, retired: names.ObjectName, *, keep_for_jobs: bool = False) -> bool:
        """Put a song that was set aside back if a job needs it; tell whether one does."""
        needed = self.is_needed(song_hash, keep_for_jobs=keep_for_jobs)
        song_name = names.song_object(song_hash)
        if needed and self.store.stat(song_name) is None:
            with suppress(ObjectMissingError):
                self.store.copy(retired, song_name)
        return needed

    def is_needed(self, song_hash: str, *, keep_for_jobs: bool) -> bool:
        """Tell whether a request for the song is owed, or with `keep_for_jobs` whether there is any."""
        for info in self.store.list(names.QUEUE_BUCKET, song_hash):
            job_id = info.name.key.removesuffix(".json")
            if not names.is_job_id(job_id):
                continue
            request, outcome = self.end(job_id)
            if request is not None and (keep_for_jobs or outcome is None):
                return True
        return False

    def songs(self) -> Iterator[StoredSong]:
        """Yield all that both buckets list, song by song. The listings are read as they are used."""
        listings = (self.store.list(names.QUEUE_BUCKET), self.store.list(names.OUTPUT_BUCKET))
        ours = ((info for info in listing if names.owner_of(info.name) is not None) for listing in listings)
        for song_hash, infos in groupby(heapq.merge(*ours, key=_song_hash), key=_song_hash):
            stored = StoredSong(song_hash)
            for info in infos:
                _file_under(stored, info)
            yield stored

    def _remove_copies(self, outcome: Outcome) -> None:
        for stem in outcome.stems:
            self.store.remove(names.stem_object(outcome.job_id, stem, outcome.format))

    def _serves(self, known: JobRequest, wanted: JobRequest) -> bool:
        """Tell whether `known` is owed, or done with all its stems still there, and gives what is wanted."""
        if not known.options.same_result_as(wanted.options):
            return False
        outcome = self.outcome(known)
        if outcome is None:
            return True
        if outcome.status is not JobStatus.DONE or outcome.ran is None:
            return False
        weights = wanted.options.weights_sha256
        if weights is not None and weights != outcome.ran.weights_sha256:
            return False
        files = (names.ObjectName(names.OUTPUT_BUCKET, file.key) for file in outcome.stems.values())
        return all(self.store.stat(name) is not None for name in files)

    def _swap_request(self, job_id: str, change: Callable[[JobRequest | None], Wanted]) -> Wanted:
        while True:
            known, etag = self._request(job_id)
            request = change(known)
            if request is None or request is known:
                return request
            try:
                self.store.put_if(names.request_object(job_id), request.to_json(), etag=etag)
            except ObjectChangedError:
                continue
            return request

    def _request(self, job_id: str) -> tuple[JobRequest | None, str | None]:
        return self._document(names.request_object(job_id), JobRequest.from_json)

    def _outcome(self, job_id: str) -> tuple[Outcome | None, str | None]:
        return self._document(names.outcome_object(job_id), Outcome.from_json)

    def _document(
        self, name: names.ObjectName, read: Callable[[bytes], Document]
    ) -> tuple[Document | None, str | None]:
        """Return a document and its etag, two times None if there is none."""
        try:
            data, etag = self.store.get(name)
        except ObjectMissingError:
            return None, None
        try:
            return read(data), etag
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the document {name} is damaged: {error}", code="bad_document") from error

    def fetch_song(self, song_hash: str, path: Path) -> None:
        """Write a stored song to `path`; on failure nothing is left there.

        Raises:
            ObjectMissingError: it is not stored.
            OSError: `path` cannot be written.
        """
        self.store.get_file(names.song_object(song_hash), path)

    def put_stem(self, job_id: str, token: str, stem: str, extension: str, path: Path) -> StemFile:
        """Store a stem under a name that no other attempt uses, and return what an outcome says of it."""
        name = names.attempt_object(job_id, token, stem, extension)
        self.store.put_file(name, path)
        return StemFile(key=name.key, size_bytes=path.stat().st_size, sha256=names.hash_file(path))


def _song_hash(info: ObjectInfo) -> str:
    return info.name.key[: names.SONG_HASH_LENGTH]


def _file_under(stored: StoredSong, info: ObjectInfo) -> None:
    """Note one listed object with the song or job that it belongs to."""
    key = info.name.key
    if info.name == names.song_object(stored.song_hash):
        stored.song = info
    elif info.name.bucket == names.QUEUE_BUCKET and key.startswith(names.song_object(stored.song_hash).key):
        stored.retired.append(info)
    elif job_id := names.owner_of(info.name):
        job = stored.jobs.setdefault(job_id, StoredJob(job_id))
        if info.name == names.request_object(job_id):
            job.request = info
        elif info.name == names.outcome_object(job_id):
            job.outcome = info
        elif key.startswith(names.attempt_prefix(job_id)):
            job.attempts.append(info)
        else:
            job.copies.add(key)
