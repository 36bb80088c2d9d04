"""Random faults, by a seed, while songs are posted.

Faults are spread over the songs and not over time, so that a slow machine has as many as a fast one.
"""

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from chaos.clients import Order
from chaos.history import Event
from chaos.points import END_POINTS, SUBMIT_POINTS, WORKER_POINTS, Plan
from chaos.service import Service
from chaos.zygote import Child

#: Songs are posted while fewer jobs than this are open, so that the faults of a run meet jobs in all states.
MOST_OPEN: Final = 200
#: Workers at once in most runs: enough that some of them always wait for each other, on any machine.
WORKERS: Final = 8
#: Clients at once.
CLIENTS: Final = 2
#: Orders that one client process carries out, and some more if the last ones are of the same song.
ORDERS_AT_ONCE: Final = 50


@dataclass(frozen=True)
class Fault:
    """What is to strike `times` times in the course of a run; each time it shows in the history as `event`."""

    event: str
    times: int
    strike: Callable[[], None]


class Feeder:
    """Gives orders to clients; what a killed one was given is given to another from its beginning."""

    def __init__(
        self,
        service: Service,
        rng: Random,
        orders: Sequence[Order],
        *,
        killed_share: float = 0,
        most_open: int = MOST_OPEN,
        rest_url: str | None = None,
    ) -> None:
        """A share of the clients is killed at a named point of its work."""
        self._service = service
        self._rng = rng
        self._killed_share = killed_share
        self._most_open = most_open
        self._rest_url = rest_url
        self._waiting = deque(_batches(orders))
        self._total = len(self._waiting)
        self._running: dict[Child, Sequence[Order]] = {}

    @property
    def progress(self) -> float:
        """0..1"""
        return 1 - (len(self._waiting) + len(self._running)) / self._total

    def tend(self) -> None:
        """Look after the clients."""
        for client in [client for client in self._running if not client.alive]:
            orders = self._running.pop(client)
            if client.status == -signal.SIGKILL:
                self._start(orders)
            else:
                assert client.status == 0, f"{client.name} failed; its log says why"
        while self._waiting and len(self._running) < CLIENTS:
            killed = self._rng.random() < self._killed_share
            point = self._rng.choice((*SUBMIT_POINTS, *END_POINTS))
            self._start(self._waiting.popleft(), *[Plan(point, "kill", self._rng.randint(1, 8))] * killed)

    def _start(self, orders: Sequence[Order], *plans: Plan) -> None:
        client = self._service.start_client(orders, *plans, most_open=self._most_open, rest_url=self._rest_url)
        self._running[client] = orders


class Monkey:
    """Keeps janitor and workers running, and strikes them."""

    def __init__(
        self, service: Service, rng: Random, *, workers: int, plans: Callable[[], Sequence[Plan]] = lambda: ()
    ) -> None:
        """`plans` says what each new worker comes to."""
        self.seen: Counter[str] = Counter()
        self.new_events: list[Event] = []
        self._service = service
        self._rng = rng
        self._plans = plans
        self._janitor = service.start_janitor()
        self._workers = [service.start_worker(*plans()) for _ in range(workers)]
        self._wakes_at: dict[Child, float] = {}

    def tend(self) -> None:
        """Replace the dead, wake who was frozen for long, and read the history on."""
        self.new_events = self._service.history.new_events()
        self.seen.update(event["event"] for event in self.new_events)
        if not self._janitor.alive:
            self._janitor = self._service.start_janitor()
        for number, worker in enumerate(self._workers):
            if not worker.alive:
                self._workers[number] = self._service.start_worker(*self._plans())
            elif worker.stopped:
                # Past the lease, and then around the end of the attempt that took over.
                wakes_at = self._wakes_at.setdefault(worker, time.monotonic() + self._rng.uniform(1.2, 2.5))
                if time.monotonic() > wakes_at:
                    self._wake(worker)

    def kill_worker(self) -> None:
        victim = self._rng.choice(self._workers)
        if victim.alive:
            self._service.history.note("killed", pid=victim.pid, point="any")
            victim.signal(signal.SIGKILL)

    def freeze_worker(self) -> None:
        victim = self._rng.choice(self._workers)
        if victim.alive and not victim.stopped:
            self._service.history.note("froze", pid=victim.pid, point="any")
            victim.signal(signal.SIGSTOP)

    def kill_janitor(self) -> None:
        self._service.history.note("janitor killed", pid=self._janitor.pid)
        self._janitor.signal(signal.SIGKILL)

    def restart_redis(self) -> None:
        self._service.restart_redis(self._rng.uniform(0, 1.5))

    def rampage(
        self,
        feeder: Feeder,
        faults: Sequence[Fault] = (),
        *,
        until: Callable[[], bool] = lambda: True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Strike until all is posted, all faults have struck as often as they should, and `until` holds; then stop."""
        while True:
            feeder.tend()
            self.tend()
            meanwhile()
            due = [fault for fault in faults if self.seen[fault.event] < fault.times * feeder.progress]
            if feeder.progress == 1 and not due and until():
                break
            for fault in due:
                fault.strike()
            time.sleep(0.01)
        self.calm()

    def calm(self) -> None:
        """Let workers without plans and a janitor go on undisturbed."""
        for worker in list(self._wakes_at):
            self._wake(worker)
        time.sleep(1)  # whoever woke may do what harm it can
        self._plans = lambda: ()
        for worker in self._workers:
            worker.signal(signal.SIGKILL)
            worker.wait(10)
        self.tend()

    def _wake(self, worker: Child) -> None:
        del self._wakes_at[worker]
        worker.signal(signal.SIGCONT)


def _batches(orders: Sequence[Order]) -> list[list[Order]]:
    """Share orders out; those of one song stay together, or its removal could overtake its last post."""
    batches: list[list[Order]] = []
    for order in orders:
        if batches and (len(batches[-1]) < ORDERS_AT_ONCE or batches[-1][-1].song == order.song):
            batches[-1].append(order)
        else:
            batches.append([order])
    return batches


def random_deaths(rng: Random, share: float) -> tuple[Plan, ...]:
    """Return how a worker dies at a named point, for a share of all workers."""
    if rng.random() > share:
        return ()
    return (Plan(rng.choice(WORKER_POINTS), "kill", rng.randint(1, 6)),)
