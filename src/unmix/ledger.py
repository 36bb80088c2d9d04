"""The ledger: requests and outcomes as documents in the object store.

A request that has no outcome of its own generation is owed; the first outcome committed for a generation ends it.
The commit is one compare-and-swap, so that of two workers who both believe they own a job exactly one wins and the
other adopts what stands there. Songs and stems are plain objects beside the documents.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

from unmix import song
from unmix.errors import InputError, LeaseLostError, ObjectChangedError, ObjectMissingError, StoreError
from unmix.job import JobRequest, JobStatus, Outcome, StemFile
from unmix.store import ObjectStore

Document = TypeVar("Document", JobRequest, Outcome)

#: Callbacks of one job, so that posting a song again and again does not make its request grow for ever.
MAX_CALLBACKS: Final = 16


def utc_now() -> str:
    """Return the present time as ISO 8601 in UTC, for documents that people read."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Ledger:
    """The documents of one object store. Every method raises `StoreError` when the store is away."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def request(self, job_id: str) -> JobRequest | None:
        """Return the request of a job, None if there is none."""
        return self._request(job_id)[0]

    def outcome(self, request: JobRequest) -> Outcome | None:
        """Return how `request` ended, None while it is owed. An outcome of another generation counts as none."""
        outcome, _ = self._outcome(request.job_id)
        return outcome if outcome is not None and outcome.generation == request.generation else None

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

    def commit(self, outcome: Outcome) -> Outcome:
        """Commit how a job ended, once per generation, and return the outcome that counts: the first one.

        Raises:
            LeaseLostError: the job was removed or submitted anew meanwhile; nothing was written.
        """
        while True:
            # The order matters: a request read after the outcome is at least as new as what is swapped out.
            standing, etag = self._outcome(outcome.job_id)
            request = self.request(outcome.job_id)
            if request is None or request.generation != outcome.generation:
                raise LeaseLostError(f"{outcome.job_id} was removed or submitted anew", code="superseded")
            if standing is not None and standing.generation == outcome.generation:
                return standing
            try:
                self.store.put_if(song.outcome_object(outcome.job_id), outcome.to_json(), etag=etag)
            except ObjectChangedError:
                continue  # somebody else was faster: look again
            return outcome

    def publish(self, outcome: Outcome) -> None:
        """Copy the stems of a done job to the names that the contract knows. Can be repeated by anyone."""
        for stem, file in outcome.stems.items():
            source = song.ObjectName(song.OUTPUT_BUCKET, file.key)
            with suppress(ObjectMissingError):  # a stem that was removed since stays removed
                self.store.copy(source, song.stem_object(outcome.job_id, stem, outcome.format))

    def discard(self, stems: Mapping[str, StemFile]) -> None:
        """Remove the files of an attempt that did not win."""
        for file in stems.values():
            self.store.remove(song.ObjectName(song.OUTPUT_BUCKET, file.key))

    def remove_stem(self, request: JobRequest, outcome: Outcome, stem: str) -> None:
        """Remove one stem of a done job: its file and its copy."""
        self.store.remove(song.stem_object(request.job_id, stem, outcome.format))
        self.store.remove(song.ObjectName(song.OUTPUT_BUCKET, outcome.stems[stem].key))

    def remove_job(self, job_id: str) -> None:
        """Remove all that is stored of a job; the request first, so that nothing here becomes owed again."""
        self.store.remove(song.request_object(job_id))
        song_hash = song.song_hash_of(job_id)
        siblings = [info for info in self.store.list(song.QUEUE_BUCKET, song_hash) if info.name.key.endswith(".json")]
        if not siblings:  # no job with other options needs the song any more
            self.store.remove(song.song_object(song_hash))
        outcome, _ = self._outcome(job_id)
        self.store.remove(song.outcome_object(job_id))
        for stem in outcome.stems if outcome else ():
            self.store.remove(song.stem_object(job_id, stem, outcome.format if outcome else "mp3"))
        for info in list(self.store.list(song.OUTPUT_BUCKET, song.attempt_prefix(job_id))):
            self.store.remove(info.name)

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
        files = (song.ObjectName(song.OUTPUT_BUCKET, file.key) for file in outcome.stems.values())
        return all(self.store.stat(name) is not None for name in files)

    def _swap_request(self, job_id: str, change: Callable[[JobRequest | None], JobRequest]) -> JobRequest:
        while True:
            known, etag = self._request(job_id)
            request = change(known)
            if request is known:
                return request
            try:
                self.store.put_if(song.request_object(job_id), request.to_json(), etag=etag)
            except ObjectChangedError:
                continue
            return request

    def _request(self, job_id: str) -> tuple[JobRequest | None, str | None]:
        return self._document(song.request_object(job_id), JobRequest.from_json)

    def _outcome(self, job_id: str) -> tuple[Outcome | None, str | None]:
        return self._document(song.outcome_object(job_id), Outcome.from_json)

    def _document(self, name: song.ObjectName, read: Callable[[bytes], Document]) -> tuple[Document | None, str | None]:
        """Return a document and its etag, two times None if there is none."""
        try:
            data, etag = self.store.get(name)
        except ObjectMissingError:
            return None, None
        try:
            return read(data), etag
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the document {name} is damaged: {error}", code="bad_document") from error
