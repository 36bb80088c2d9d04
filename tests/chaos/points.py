"""The named points of the work, and what is made to happen there. The product knows nothing of them.

The public methods of queue, ledger and store are wrapped from outside, in a process that was started for it. A process
that gets to a point may kill itself (SIGKILL, which leaves nothing to clean up), freeze (SIGSTOP, until the harness
wakes it) or be told to stop (SIGTERM).
"""

import functools
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chaos.history import History
from chaos.stand_in_child import SOURCES
from unmix import names
from unmix.job import JobRequest
from unmix.ledger.ledger import Ledger
from unmix.ledger.removal import Removal
from unmix.names import ObjectName
from unmix.outcome import Outcome
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import Claim
from unmix.store.file import FileStore
from unmix.store.s3 import MinioStore

#: Where a worker may be hit, in the order of its work.
WORKER_POINTS: Final = (
    "after_take",
    "after_claim",
    "after_request",
    "after_fetch",
    "while_separating",
    "after_first_put",
    "after_all_puts",
    "before_commit",
    "before_commit_put",
    "after_commit",
    "after_first_copy",
    "after_publish",
    "after_finish",
)
#: Those between the last check of the lease and the put that commits: where a frozen worker could mix results.
CHECK_TO_PUT: Final = ("before_commit", "before_commit_put")
#: Where a worker may be hit over each part of a song that is separated in parts, whether it leads or helps.
PART_POINTS: Final = ("before_part_document", "after_part_document")
#: Where whoever submits may be hit before the song counts as accepted.
SUBMIT_POINTS: Final = ("after_song_put", "after_request_put", "after_push")
#: Where whoever cancels or removes may be hit.
END_POINTS: Final = ("after_cancel_commit", "after_request_removal", "after_removal")

_SIGNALS: Final = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "stop": signal.SIGTERM}
_WORDS: Final = {"kill": "killed", "freeze": "froze", "stop": "told to stop"}


@dataclass(frozen=True)
class Plan:
    """What happens to a process when it comes to `point` in its `nth` job, or part, that gets there."""

    point: str
    action: Literal["kill", "freeze", "stop"]
    nth: int = 1


class Passage:
    """Where this process is in its work; carries out its plans and tells the history."""

    def __init__(self, history: History, plans: Sequence[Plan]) -> None:
        self.claim: Claim | None = None
        self.job_id: str | None = None  # that is worked on, or helped with
        self.generation: str | None = None  # of its submission
        self._history = history
        self._plans = list(plans)
        self._times: Counter[str] = Counter()
        self._passed: set[str] = set()  # in the present job

    def begin(self) -> None:
        """A new job comes."""
        self.claim = self.job_id = self.generation = None
        self._passed.clear()

    def claimed(self, claim: Claim) -> None:
        self.claim, self.job_id, self.generation = claim, claim.job_id, claim.generation

    def asked(self, request: JobRequest) -> None:
        self.job_id, self.generation = request.job_id, request.generation

    def note(self, event: str, **fields: Any) -> None:
        """Tell the history, with the job at hand."""
        if self.claim is not None:
            fields |= {"job": self.claim.job_id, "generation": self.generation, "token": self.claim.token}
        self._history.note(event, pid=os.getpid(), **fields)

    def committed(self, outcome: Outcome) -> None:
        """Tell the history which outcome counts, as far as this process was told."""
        winner = outcome.token or outcome.status.value
        self._history.note("committed", job=outcome.job_id, generation=outcome.generation, winner=winner)

    def reach(self, point: str) -> None:
        """Do what is planned here; a point counts once a job, or once a part."""
        if point in self._passed:
            return
        if point not in PART_POINTS:
            self._passed.add(point)
        self._times[point] += 1
        for plan in [plan for plan in self._plans if (plan.point, plan.nth) == (point, self._times[point])]:
            self._plans.remove(plan)
            self.note(_WORDS[plan.action], point=point)
            os.kill(os.getpid(), _SIGNALS[plan.action])
            if plan.action == "freeze":
                self.note("woke", point=point)


def watch_worker(passage: Passage) -> None:
    """Let the worker of this process pass the points, and tell the history of its commits and finishes."""

    def taken(element: str | None, *_: Any) -> None:
        if element is not None:
            passage.begin()
            passage.reach("after_take")

    def claimed(claim: Claim | None, *_: Any) -> None:
        if claim is not None:
            passage.claimed(claim)
            passage.reach("after_claim")

    def asked(request: JobRequest | None, *_: Any) -> None:
        if request is not None:
            passage.asked(request)
            passage.reach("after_request")

    def stem_put(_: None, __: Any, name: ObjectName, *___: Any) -> None:
        passage.reach("after_first_put")
        if f"/{SOURCES[-1]}." in name.key:
            passage.reach("after_all_puts")

    def committed(outcome: Outcome, *_: Any) -> None:
        passage.committed(outcome)
        passage.reach("after_commit")

    def finished(*_: Any) -> None:
        passage.note("finished")
        passage.reach("after_finish")

    def before_put(_: Any, name: ObjectName, *__: Any) -> None:
        if _is_of_part(name):
            passage.reach("before_part_document")
        if _is_document(name, names.OUTPUT_BUCKET):
            passage.reach("before_commit_put")

    def after_put(_: None, __: Any, name: ObjectName, *___: Any) -> None:
        if _is_of_part(name):
            passage.reach("after_part_document")

    after(JobQueue, "take", taken)
    after(JobQueue, "claim", claimed)
    after(Ledger, "request", asked)
    after(Ledger, "adopt", asked)
    before(Ledger, "commit", lambda *_: passage.reach("before_commit"))
    after(Ledger, "commit", committed)
    after(Ledger, "publish", lambda *_: passage.reach("after_publish"))
    after(JobQueue, "finish", finished)
    for store in (FileStore, MinioStore):
        after(store, "get_file", lambda *_: passage.reach("after_fetch"))
        after(store, "put_file", stem_put)
        after(store, "copy", lambda *_: passage.reach("after_first_copy"))
        before(store, "put_if", before_put)
        after(store, "put_if", after_put)
        before(store, "put", before_put)  # the commit where the store ignores conditions


def watch_client(passage: Passage) -> None:
    """Let whoever submits, cancels or removes in this process pass its points."""

    def cancelled(outcome: Outcome, *_: Any) -> None:
        passage.committed(outcome)
        passage.reach("after_cancel_commit")

    def removed(_: None, __: Any, name: ObjectName) -> None:
        if _is_document(name, names.QUEUE_BUCKET):
            passage.reach("after_request_removal")

    after(Ledger, "accept", lambda *_: passage.reach("after_request_put"))
    after(JobQueue, "submit", lambda *_: passage.reach("after_push"))
    after(Ledger, "commit", cancelled)
    after(Removal, "remove_job", lambda *_: passage.reach("after_removal"))
    for store in (FileStore, MinioStore):
        after(store, "put_file", lambda *_: passage.reach("after_song_put"))
        after(store, "put", lambda *_: passage.reach("after_song_put"))
        after(store, "remove", removed)


def before(owner: type, method: str, then: Callable[..., None]) -> None:
    """Let `then` be called with the arguments of each call to `owner.method`, before it."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        then(*args)
        return original(*args, **kwargs)

    setattr(owner, method, call)


def after(owner: type, method: str, then: Callable[..., None]) -> None:
    """Let `then` be called with the result and the arguments of each call to `owner.method` that succeeded."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        then(result, *args)
        return result

    setattr(owner, method, call)


def _is_document(name: ObjectName, bucket: str) -> bool:
    return name.bucket == bucket and name.key.endswith(".json") and "/" not in name.key


def _is_of_part(name: ObjectName) -> bool:
    return "/parts." in name.key
