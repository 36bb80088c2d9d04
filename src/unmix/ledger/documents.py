"""The two documents of a job in the object store: read, replaced by compare-and-swap, stood in for when damaged.

A document that cannot be read does not make its readers fail: a damaged request is one that can only fail, a damaged
outcome a failure. So such a job ends where everybody sees it, and whoever goes through all jobs is not stopped by one.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from unmix import names
from unmix.errors import ObjectChangedError, ObjectMissingError
from unmix.job import DamagedRequest, JobRequest
from unmix.outcome import DamagedOutcome, Outcome
from unmix.store.protocol import ObjectStore

Wanted = TypeVar("Wanted", JobRequest, JobRequest | None)

#: What a document raises that is none.
DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Documents:
    """Requests and outcomes of one store. Every method raises `StoreError` when the store is away."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def request(self, job_id: str) -> JobRequest | None:
        """Return the request of a job, None if there is none."""
        return self._request(job_id)[0]

    def outcome(self, job_id: str) -> tuple[Outcome | None, str | None]:
        """Return the outcome of a job, of whatever generation, and its etag; two times None if there is none."""
        try:
            data, etag = self._store.get(names.outcome_object(job_id))
        except ObjectMissingError:
            return None, None
        try:
            outcome = Outcome.from_json(data)
            return (outcome if outcome.job_id == job_id else DamagedOutcome.of(job_id)), etag
        except DAMAGE:
            return DamagedOutcome.of(job_id), etag

    def outcome_of(self, request: JobRequest) -> Outcome | None:
        """Return how `request` ended, None while it is owed. An outcome of another generation counts as none."""
        outcome, _ = self.outcome(request.job_id)
        ends_it = outcome is not None and (
            isinstance(outcome, DamagedOutcome) or outcome.generation == request.generation
        )
        return outcome if ends_it else None

    def end(self, job_id: str) -> tuple[JobRequest | None, Outcome | None]:
        """Return the request of a job, and how it ended."""
        request = self.request(job_id)
        return request, self.outcome_of(request) if request else None

    def swap_request(
        self, job_id: str, change: Callable[[JobRequest | None], Wanted], *, before_put: Callable[[JobRequest], None]
    ) -> Wanted:
        """Replace the request by what `change` makes of it, and return what counts then.

        `before_put` is called with each request that is about to be written.
        """
        while True:
            known, etag = self._request(job_id)
            request = change(known)
            if request is None or request is known:
                return request
            before_put(request)
            try:
                self._store.put_if(names.request_object(job_id), request.to_json(), etag=etag)
            except ObjectChangedError:
                continue
            return request

    def _request(self, job_id: str) -> tuple[JobRequest | None, str | None]:
        try:
            data, etag = self._store.get(names.request_object(job_id))
        except ObjectMissingError:
            return None, None
        try:
            request = JobRequest.from_json(data)
            return (request if request.job_id == job_id else DamagedRequest.of(job_id, data)), etag
        except DAMAGE:
            return DamagedRequest.of(job_id, data), etag
