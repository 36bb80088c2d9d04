"""Jobs of the present: accepted and waiting, or in the hands of workers that only say how far they are.

They go through the ledger and the queue as those of clients and workers do; nobody separates them. `past` has those
that are over.
"""

import random
import threading
import time
from collections.abc import Sequence
from typing import Final, Self

from benchmarks import past
from unmix import names
from unmix.job import JobRequest, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim
from unmix.store.protocol import ObjectStore

_WAIT_SECONDS: Final = 5


def accept(store: ObjectStore, queue: JobQueue, numbers: range, *, batch: str) -> list[str]:
    """Accept a song for each number, as REST would, and return the ids of the jobs."""
    ledger = Ledger(store, guard=queue.guard)
    job_ids = []
    for number in numbers:
        job_id = past.job_id(number)
        store.put(names.song_object(job_id), past.song(number))
        wanted = JobRequest(
            job_id, SeparationOptions(past.MODEL), utc_now(), duration_seconds=180.0, name="present", batches=(batch,)
        )
        accepted, _ = ledger.accept(wanted)
        queue.job_list.note(accepted)
        queue.submit(accepted.job_id, accepted.generation)
        job_ids.append(job_id)
    return job_ids


def begin(queue: JobQueue, count: int) -> list[Claim]:
    """Claim the next `count` jobs, each as another worker."""
    claims = []
    for number in range(count):
        element = queue.take(block_seconds=_WAIT_SECONDS)
        assert element is not None
        claim = queue.claim(element, element, f"worker-{number}")
        assert claim is not None
        claims.append(claim)
    return claims


class Workers:
    """Say of running jobs in turn how far they are, while the block runs."""

    #: How far a job gets each time.
    STEP: Final = 0.005

    def __init__(self, queue: JobQueue, claims: Sequence[Claim], *, renew_seconds: float) -> None:
        """Each of `claims` is renewed about every `renew_seconds`."""
        self.said: list[tuple[str, float, float]] = []  # job, progress, and the moment before it was said
        self._queue = queue
        self._claims = claims
        self._pause_seconds = renew_seconds / len(claims)
        self._failure: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._failure:
            raise self._failure

    def _work(self) -> None:
        rng = random.Random(1)  # at no fixed beat, as REST's looks have one
        number = 0
        try:
            while not self._ended.wait(self._pause_seconds * rng.uniform(0.5, 1.5)):
                claim = self._claims[number % len(self._claims)]
                progress = round(self.STEP * (1 + number // len(self._claims)), 4)
                if progress >= 1:
                    raise RuntimeError("the running jobs have come to their end while they were measured")
                at = time.monotonic()
                self._queue.renew(claim, progress=progress)
                self.said.append((claim.job_id, progress, at))
                number += 1
        except Exception as error:  # for the caller, who would not see it in a thread
            self._failure = error
