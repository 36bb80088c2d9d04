"""Removal: jobs, single stems and songs go, and never what somebody still needs.

What is removed here may be submitted again at the same moment. So files are listed before the documents are read that
condemn them, and a song that is about to go is only set aside until the requests have been read once more.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from unmix import names
from unmix.errors import ObjectMissingError, StoreError
from unmix.job import JobRequest
from unmix.ledger.documents import Documents
from unmix.ledger.inventory import StoredJob
from unmix.ledger.open_marks import OpenMarks
from unmix.outcome import Outcome
from unmix.store.protocol import ObjectStore


class Removal:
    """What takes things out of one store. Every method raises `StoreError` when the store is away."""

    def __init__(self, store: ObjectStore, documents: Documents, open_marks: OpenMarks) -> None:
        self._store = store
        self._documents = documents
        self._open_marks = open_marks

    def remove_stem(self, request: JobRequest, outcome: Outcome, stem: str) -> None:
        """Remove one stem of a done job: its file and its copy."""
        self._store.remove(names.stem_object(request.job_id, stem, outcome.format))
        self._store.remove(names.ObjectName(names.OUTPUT_BUCKET, outcome.stems[stem].key))

    def remove_job(self, job_id: str) -> None:
        """Remove all that is stored of a job; the request first, so that nothing here becomes owed again."""
        with _although_full():  # without it the audit finds what is left
            self._open_marks.put(job_id, "removed")  # until the janitor has seen that nothing is left
        known, _ = self._documents.outcome(job_id)
        # The stems of a done job can be named. The janitor finds what is left of other attempts, and parts, which may
        # be very many.
        listed = [] if known and known.stems else self._files_of(job_id)
        self._store.remove(names.request_object(job_id))
        outcome, _ = self._documents.outcome(job_id)  # until here a worker could commit one
        self.retire_song(names.song_hash_of(job_id), keep_for_jobs=True)
        if self._documents.request(job_id) is None:  # else it was submitted again, and this may be how that ended
            self._store.remove(names.outcome_object(job_id))
        if outcome:
            self.remove_copies(outcome)
            self._remove_all(names.ObjectName(names.OUTPUT_BUCKET, file.key) for file in outcome.files)
        self._remove_all(listed)
        if self._documents.request(job_id) is not None:  # all the same some of it may be gone: the janitor has to look
            with _although_full():
                self._open_marks.put(job_id, "submitted while it was removed")

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
            with _although_full():  # then no job is accepted meanwhile that could lose its song
                self._store.copy(song_name, retired)
        except ObjectMissingError:
            return True  # gone already; one that comes from here on could not be put back
        self._store.remove(song_name)
        needed = self.restore_song(song_hash, retired, keep_for_jobs=keep_for_jobs)
        self._store.remove(retired)
        return not needed

    def restore_song(self, song_hash: str, retired: names.ObjectName, *, keep_for_jobs: bool = False) -> bool:
        """Put a song that was set aside back if a job needs it; tell whether one does."""
        needed = self.is_needed(song_hash, keep_for_jobs=keep_for_jobs)
        song_name = names.song_object(song_hash)
        if needed and self._store.stat(song_name) is None:
            with suppress(ObjectMissingError):
                self._store.copy(retired, song_name)
        return needed

    def put_back(self, song_hash: str) -> None:
        """Put a song back that was set aside, for a job that has come to need it; whoever set it aside may be dead."""
        for info in self._store.list(names.QUEUE_BUCKET, names.retired_prefix(song_hash)):
            with suppress(ObjectMissingError):
                self._store.copy(info.name, names.song_object(song_hash))
                return

    def is_needed(self, song_hash: str, *, keep_for_jobs: bool) -> bool:
        """Tell whether a request for the song is owed, or with `keep_for_jobs` whether there is any."""
        for info in self._store.list(names.QUEUE_BUCKET, song_hash):
            job_id = info.name.key.removesuffix(".json")
            if not names.is_job_id(job_id):
                continue
            request, outcome = self._documents.end(job_id)
            if request is not None and (keep_for_jobs or outcome is None):
                return True
        return False

    def remove_losers(self, listed: StoredJob, outcome: Outcome) -> int:
        """Remove the files of attempts and submissions that came too late or failed, and return how many there were.

        `listed` has to be older than the look at `outcome`: nothing of a later submission is among it then.
        """
        winner = names.attempt_prefix(listed.job_id) + outcome.token + "/" if outcome.stems else None
        losers = [info.name for info in listed.attempts if winner is None or not info.name.key.startswith(winner)]
        heard = f"{names.parts_prefix(listed.job_id)}{outcome.generation}." if outcome.stems else None
        unheard = [info.name for info in listed.parts if heard is None or not info.name.key.startswith(heard)]
        return self._remove_all([*losers, *unheard])

    def remove_attempt(self, job_id: str, token: str) -> None:
        """Remove what an attempt has stored that gives up."""
        prefix = f"{names.attempt_prefix(job_id)}{token}/"
        self._remove_all([info.name for info in self._store.list(names.OUTPUT_BUCKET, prefix)])

    def remove_parts(self, listed: StoredJob) -> int:
        """Remove the parts of a job, which nobody needs once it is over, and return how many objects they were."""
        return self._remove_all(info.name for info in listed.parts)

    def remove_leftovers(self, listed: StoredJob) -> int:
        """Remove what is left of a job that has no request any more: a worker that slept may have committed it.

        `listed` has to be older than the look at the request. Copies alone are none of ours: an older service made
        them, and a removal takes ours before the attempts.
        """
        if listed.outcome is None and not listed.attempts and not listed.parts:
            return 0
        found = [info.name for info in (listed.outcome, *listed.attempts, *listed.parts) if info is not None]
        copies = [names.ObjectName(names.OUTPUT_BUCKET, key) for key in listed.copies]
        return self._remove_all([*found, *copies])

    def drop_retired(self, retired: names.ObjectName) -> None:
        """Remove a song that was set aside by a removal that is dead."""
        self._store.remove(retired)

    def remove_copies(self, outcome: Outcome) -> None:
        """Remove the copies under the names that the contract knows."""
        for stem in outcome.stems:
            self._store.remove(names.stem_object(outcome.job_id, stem, outcome.format))

    def _files_of(self, job_id: str) -> list[names.ObjectName]:
        """List the files of a job, all but its outcome and its parts."""
        listed = (info.name for info in self._store.list(names.OUTPUT_BUCKET, job_id))
        kept, parts = names.outcome_object(job_id), names.parts_prefix(job_id)
        ours = (name for name in listed if names.owner_of(name) == job_id and name != kept)
        return [name for name in ours if not name.key.startswith(parts)]

    def _remove_all(self, listed: Iterable[names.ObjectName]) -> int:
        count = 0
        for name in listed:
            self._store.remove(name)
            count += 1
        return count


@contextmanager
def _although_full() -> Iterator[None]:
    """Go on where a full store keeps something from being written: what removes is what makes room."""
    try:
        yield
    except StoreError as error:
        if error.code != "store_full":
            raise
