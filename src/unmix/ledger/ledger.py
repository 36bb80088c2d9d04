"""The ledger: requests and outcomes as documents in the object store, beside the songs and stems that they are about.

A request that has no outcome of its own generation is owed; the first outcome committed for a generation ends it.
The commit is one compare-and-swap, so that of two workers who both believe they own a job exactly one wins and the
other adopts what stands there. What goes is `unmix.ledger.removal`'s, what is listed `unmix.ledger.inventory`'s.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from unmix import names
from unmix.errors import InputError, ObjectChangedError, ObjectMissingError, SupersededError
from unmix.job import DamagedRequest, JobRequest, JobStatus
from unmix.ledger.callback_room import refuse_too_many
from unmix.ledger.documents import Documents, Wanted
from unmix.ledger.inventory import Inventory
from unmix.ledger.open_marks import OpenMarks
from unmix.ledger.parts import Parts
from unmix.ledger.removal import Removal
from unmix.ledger.uploads import Uploads
from unmix.outcome import DamagedOutcome, Delivery, DeliveryState, Outcome, StemFile
from unmix.store.protocol import ObjectStore


def utc_now() -> str:
    """Return the present time as ISO 8601 in UTC, for documents that people read."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class CommitGuard(Protocol):
    """Decides who was first, for stores that cannot: `unmix.queue.commit_guard` does."""

    def first_commit(self, job_id: str, generation: str, data: bytes) -> bytes:
        """Return the first `data` that was given for this generation of the job."""


class Ledger:
    """The ledger in one object store. Every method raises `StoreError` when the store is away.

    A `guard` makes commits safe where the store ignores conditional puts; then they raise its errors too.
    """

    def __init__(self, store: ObjectStore, guard: CommitGuard | None = None) -> None:
        self._store = store
        self._guard = guard
        self._documents = Documents(store)
        self.inventory = Inventory(store)
        self.open_marks = OpenMarks(store)
        self.uploads = Uploads(store)
        self.removal = Removal(store, self._documents, self.open_marks)

    def request(self, job_id: str) -> JobRequest | None:
        """Return the request of a job, None if there is none."""
        return self._documents.request(job_id)

    def outcome(self, request: JobRequest) -> Outcome | None:
        """Return how `request` ended, None while it is owed. An outcome of another generation counts as none."""
        return self._documents.outcome_of(request)

    def end(self, job_id: str) -> tuple[JobRequest | None, Outcome | None]:
        """Return the request of a job, and how it ended."""
        return self._documents.end(job_id)

    def adopt(self, request: JobRequest) -> JobRequest:
        """Write the request of a foreign push, or return the one that is there already."""
        return self._swap_request(request.job_id, lambda known: known or request)

    def accept(self, request: JobRequest) -> tuple[JobRequest, bool]:
        """Write a new submission, or join the one that is owed or done with the same result.

        Returns the request that counts now, and whether it is the given one. When it joins, the given callbacks,
        labels and batches are added to the earlier request's.

        Raises:
            InputError: there is no room for one more callback (`too_many_callbacks`).
        """

        def join_or_replace(known: JobRequest | None) -> JobRequest:
            if known is None:
                return request
            if not self._serves(known, request):
                self._drop_damaged_outcome(request.job_id)
                return request
            joined = known.joined_by(request)
            if len(joined.callbacks) > len(known.callbacks):
                refuse_too_many(joined.callbacks)
            return joined

        accepted = self._swap_request(request.job_id, join_or_replace)
        return accepted, accepted.generation == request.generation

    def retry(self, job_id: str) -> JobRequest | None:
        """Submit a failed or cancelled job again; its request as it is if it is neither, None if there is none.

        Callbacks that are gone for good are left behind.

        Raises:
            InputError: the request is damaged, so that nobody knows what to do (`not_retryable`).
        """

        def renew(known: JobRequest | None) -> JobRequest | None:
            outcome = self.outcome(known) if known else None
            if isinstance(known, DamagedRequest):
                raise InputError("what was asked for cannot be read; send the song again", code="not_retryable")
            if known and outcome and outcome.status in (JobStatus.FAILED, JobStatus.CANCELLED):
                self._drop_damaged_outcome(job_id)
                kept = tuple(
                    callback
                    for index, callback in enumerate(known.callbacks)
                    if not (end := outcome.deliveries.get(str(index))) or end.ended_as != DeliveryState.GONE
                )
                return replace(known, callbacks=kept).again(utc_now())
            return known

        return self._swap_request(job_id, renew)

    def commit(self, outcome: Outcome) -> Outcome:
        """Commit how a job ended, once per generation, and return the outcome that counts: the first one.

        Raises:
            SupersededError: the job was removed or submitted anew meanwhile; nothing was written.
        """
        while True:
            # The order matters: a request read after the outcome is at least as new as what is swapped out.
            standing, etag = self._documents.outcome(outcome.job_id)
            request = self.request(outcome.job_id)
            if request is None or request.generation != outcome.generation:
                raise SupersededError(f"{outcome.job_id} was removed or submitted anew")
            if isinstance(standing, DamagedOutcome) or (standing and standing.generation == outcome.generation):
                return standing
            if self._guard is not None and not self._store.conditional_puts:
                data = self._guard.first_commit(outcome.job_id, outcome.generation, outcome.to_json())
                self._store.put(names.outcome_object(outcome.job_id), data)
                return Outcome.from_json(data)
            try:
                self._store.put_if(names.outcome_object(outcome.job_id), outcome.to_json(), etag=etag)
            except ObjectChangedError:
                continue  # somebody else was faster: look again
            return outcome

    def note_delivery(self, job_id: str, generation: str, index: int, delivery: Delivery) -> None:
        """Write into the outcome how the delivery of callback number `index` ended."""
        self._change_deliveries(job_id, generation, lambda noted: {**noted, str(index): delivery})

    def owe_delivery(self, job_id: str, generation: str, index: int) -> None:
        """Take out of the outcome how a delivery ended, so that it is owed again; the job is open until it is noted."""
        why = f"callback {index} is asked for again"
        self.open_marks.put(job_id, why)
        self._change_deliveries(
            job_id, generation, lambda noted: {number: end for number, end in noted.items() if number != str(index)}
        )
        self.open_marks.make_sure(job_id, why)

    def publish(self, outcome: Outcome) -> None:
        """Copy the stems of a done job to the names that the contract knows. Can be repeated by anyone, at any time.

        Whoever slept over this may write over newer copies; so the outcome is read once more after it.
        """
        while True:
            for stem, file in outcome.stems.items():
                source = names.ObjectName(names.OUTPUT_BUCKET, file.key)
                with suppress(ObjectMissingError):  # a stem that was removed since stays removed
                    self._store.copy(source, names.stem_object(outcome.job_id, stem, outcome.format))
            request, standing = self.end(outcome.job_id)
            if request is None:  # the job was removed meanwhile: nothing of it must outlive it
                self.open_marks.put(outcome.job_id, "committed while it was removed")
                self.removal.remove_copies(outcome)
                return
            if standing is None or standing.token == outcome.token:
                return
            outcome = standing

    def discard(self, outcome: Outcome) -> None:
        """Remove the files of an attempt that did not win."""
        for file in outcome.files:
            self._store.remove(names.ObjectName(names.OUTPUT_BUCKET, file.key))

    def has_outcome(self, job_id: str) -> bool:
        """Tell whether there is an outcome of a job, of whatever generation."""
        return self._store.stat(names.outcome_object(job_id)) is not None

    def has_song(self, song_hash: str) -> bool:
        """Tell whether a song is stored."""
        return self._store.stat(names.song_object(song_hash)) is not None

    def put_song(self, song_hash: str, path: Path) -> None:
        """Store a song, unless it is there whole."""
        name = names.song_object(song_hash)
        stored = self._store.stat(name)
        if stored is None or stored.size_bytes != path.stat().st_size:
            self._store.put_file(name, path)

    def fetch_song(self, song_hash: str, path: Path) -> None:
        """Write a song to `path`; one that a removal had set aside when it broke off is put back.

        Raises:
            ObjectMissingError: there is no such song.
        """
        name = names.song_object(song_hash)
        try:
            self._store.get_file(name, path)
        except ObjectMissingError:
            self.removal.put_back(song_hash)
            self._store.get_file(name, path)

    def parts(self, request: JobRequest, kind: str) -> Parts:
        """Return the parts of one submission that are made in the way that `kind` names."""
        return Parts(self._store, request.job_id, request.generation, kind)

    def put_stem(self, job_id: str, token: str, stem: str, extension: str, path: Path) -> StemFile:
        """Store a stem of an attempt under a name that no other attempt uses."""
        name = names.attempt_object(job_id, token, stem, extension)
        self._store.put_file(name, path)
        with path.open("rb") as file:
            return StemFile(name.key, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())

    def put_peaks(self, job_id: str, token: str, peaks: bytes) -> StemFile:
        """Store the peaks of an attempt's stems beside them."""
        name = names.peaks_object(job_id, token)
        self._store.put(name, peaks)
        return StemFile(name.key, len(peaks), hashlib.sha256(peaks).hexdigest())

    def open_stem(self, file: StemFile) -> BinaryIO:
        """Open a stem for reading; the caller closes it.

        Raises:
            ObjectMissingError: it was removed.
        """
        return self._store.open(names.ObjectName(names.OUTPUT_BUCKET, file.key))

    def has_stem(self, file: StemFile) -> bool:
        """Tell whether a stem is still there: single ones can be removed."""
        return self._store.stat(names.ObjectName(names.OUTPUT_BUCKET, file.key)) is not None

    def _serves(self, known: JobRequest, wanted: JobRequest) -> bool:
        """Tell whether `known` is owed, or done with all its stems still there, and gives what is wanted."""
        if not known.options.same_result_as(wanted.options):
            return False
        outcome = self.outcome(known)
        if outcome is None:
            return True
        if outcome.status is not JobStatus.DONE or outcome.ran is None:
            return False
        return outcome.ran.gives(wanted.options) and all(map(self.has_stem, outcome.stems.values()))

    def _swap_request(self, job_id: str, change: Callable[[JobRequest | None], Wanted]) -> Wanted:
        """Replace the request of a job, which is marked from before the write until the janitor has seen it through."""
        written: list[JobRequest] = []

        def mark(request: JobRequest) -> None:
            self.open_marks.put(job_id, request.generation)
            written.append(request)

        request = self._documents.swap_request(job_id, change, before_put=mark)
        if written:
            self.open_marks.make_sure(job_id, written[-1].generation)
        return request

    def _change_deliveries(
        self, job_id: str, generation: str, change: Callable[[dict[str, Delivery]], dict[str, Delivery]]
    ) -> None:
        while True:
            outcome, etag = self._documents.outcome(job_id)
            if outcome is None or outcome.generation != generation:
                return  # removed or submitted anew
            changed = replace(outcome, deliveries=change(outcome.deliveries))
            with suppress(ObjectChangedError):
                self._store.put_if(names.outcome_object(job_id), changed.to_json(), etag=etag)
                return

    def _drop_damaged_outcome(self, job_id: str) -> None:
        """Remove an outcome that nobody can read, as it would end every later submission too."""
        if isinstance(self._documents.outcome(job_id)[0], DamagedOutcome):
            self._store.remove(names.outcome_object(job_id))
