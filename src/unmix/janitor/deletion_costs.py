"""Tells Kubernetes which workers are busy, so that it takes away idle ones when it takes some away.

A ReplicaSet that has to lose pods looks at their annotation `controller.kubernetes.io/pod-deletion-cost` and begins
with the cheapest. Who has a song stands in Redis, so the janitor writes it for all workers, which need no access to the
cluster themselves. Why so, and what happens between a look and a scale-in: docs/adr/0021.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from unmix.errors import UnreachableError
from unmix.janitor.pods import Pods
from unmix.queue.attendance import Attendance
from unmix.queue.records import WorkerState

log = structlog.get_logger()

ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
#: Nobody misses an idle worker. What a helper has begun is made again by whoever leads, and what a busy one has: its
#: song waits for another worker.
IDLE, HELPING, BUSY = 0, 50, 100
#: Pause between two looks, in seconds: so old may be what Kubernetes knows.
LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Noted:
    """On how many pods a cost was written."""

    pods: int


class DeletionCosts:
    """Keeps the costs on the pods of workers right, as far as it matters."""

    def __init__(self, attendance: Attendance, pods: Pods) -> None:
        self._attendance = attendance
        self._pods = pods
        self._written: dict[str, int] = {}  # by us, on the pods that are there
        self._trouble: str | None = None

    def note(self, on_step: Callable[[], None]) -> Noted:
        """Look who is busy, and write on the pods what is not written there yet.

        While all of them cost the same nothing is written, as it makes no difference whom Kubernetes takes. What was
        written before and is wrong by then is mended as soon as it makes one.

        Raises:
            QueueError: Redis is away.
        """
        costs = self._costs()
        self._written = {pod: cost for pod, cost in self._written.items() if pod in costs}
        if len(set(costs.values())) < 2:
            return Noted(0)
        # The dearest first: to take an idle worker for a busy one does no harm.
        done = 0
        for pod in sorted(costs, key=costs.__getitem__, reverse=True):
            if self._written.get(pod) == costs[pod]:
                continue
            on_step()
            try:
                done += self._pods.annotate(pod, {ANNOTATION: str(costs[pod])})
            except UnreachableError as error:
                self._complain(error)
                return Noted(done)
            self._written[pod] = costs[pod]
        self._trouble = None
        return Noted(done)

    def _costs(self) -> dict[str, int]:
        """Return what it costs to lose each pod: what its worker does, or the dearest of them after a restart."""
        busy = self._attendance.busy()
        costs: dict[str, int] = {}
        for each in self._attendance.present():
            helps = each.state is WorkerState.HELPING
            cost = BUSY if each.worker in busy else HELPING if helps else IDLE
            costs[each.host] = max(cost, costs.get(each.host, IDLE))
        return costs

    def _complain(self, error: UnreachableError) -> None:
        """Log what is wrong once, not at every look."""
        if error.message != self._trouble:
            log.warning("busy workers are not spared", code=error.code, error=error.message)
        self._trouble = error.message
