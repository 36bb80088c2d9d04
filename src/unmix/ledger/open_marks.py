"""Open marks: which jobs may need something from the janitor, so that it need not look at all that were ever separated.

Whoever writes a request or begins a removal marks the job first; only the janitor takes a mark away, when nothing is
left to be done. The two may meet: so the one looks after the write whether the mark is still there, and the other looks
at the job once more after it took the mark away. One of them sees what the other did.
"""

from unmix import names
from unmix.store.protocol import ObjectStore


class OpenMarks:
    """The marks of one store. Every method raises `StoreError` when the store is away."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, job_id: str, why: str) -> None:
        """Mark a job as open; `why` is for people, and makes the mark of another submission another object."""
        self._store.put(names.open_mark(job_id), why.encode())

    def make_sure(self, job_id: str, why: str) -> None:
        """Mark a job unless it is marked: after the write that it was marked for."""
        if self._store.stat(names.open_mark(job_id)) is None:
            self.put(job_id, why)

    def take_away(self, job_id: str) -> None:
        """Take the mark of a job away. Whoever does so has to look at the job once more."""
        self._store.remove(names.open_mark(job_id))
