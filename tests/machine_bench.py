"""Who works in the queue's state machine, and over what: workers whose engine is a stand-in, servers, and the clock.

`service/test_queue_machine.py` has what happens to them, and what must be true.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import redis

from step_by_step import Actor, Stepwise, store_point
from unmix.errors import EngineError
from unmix.job import SongLevel
from unmix.ledger.ledger import Ledger
from unmix.outcome import Ran
from unmix.queue import keys
from unmix.queue.job_queue import JobQueue, QueuePolicy
from unmix.queue.records import Claim, ModelCard
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix.store.file import FileStore
from unmix_rest.app import create_app
from unmix_worker.child_process import CrashedError
from unmix_worker.lease import Lease, Released
from unmix_worker.messages import (
    Event,
    MakeRun,
    NoMoreRuns,
    Order,
    PartMade,
    PartsBegun,
    PartsTask,
    RunWanted,
    SeparationTask,
    UsePart,
)
from unmix_worker.parts import PartsExchange, PartsHelp
from unmix_worker.scratch import Scratch
from unmix_worker.separation import Separated
from unmix_worker.worker import Worker

POLICY = QueuePolicy(lease_seconds=60, grace_seconds=1, retry_seconds=5, max_attempts=3, max_crashes=2)
MAX_LAPSES = 3
STEMS = ("drums", "vocals")
CARD = ModelCard("demo", "ab" * 32, STEMS, 44_100)
#: Parts of the song, each of which is a run of its own.
PARTS = 3
PARTS_KIND = "exact-1"


class Machine(Protocol):
    """What the actors know of the state machine."""

    bench: "Bench"
    claims: dict[str, Claim]
    ledger: Ledger

    def separation_begins(self, claim: Claim, fate: str) -> None: ...

    def watch(self, operation: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any: ...


class Engine:
    """Stands in for the separating process: what it makes shows whose it is, and it meets the fate it is told to."""

    parts_kind = PARTS_KIND

    def __init__(self, machine: Machine, worker_id: str) -> None:
        self.fate = "done"
        self._machine = machine
        self._worker_id = worker_id

    def ensure_ready(self, shutdown: Shutdown) -> ModelCard:
        return CARD

    def separate(self, task: PartsTask, lease: Lease, shutdown: Shutdown, parts: PartsExchange) -> Separated:
        actor = Actor.current()
        assert actor is not None
        actor.stand_before("separate")
        lease.check()
        claim = self._machine.claims[self._worker_id]
        self._machine.separation_begins(claim, self.fate)
        if shutdown.requested:
            raise Released
        if self.fate == "fails":
            raise EngineError("this song cannot be separated")
        if self.fate == "may pass":
            raise EngineError("not this time", retryable=True)
        if self.fate == "crashes":
            raise CrashedError("the process ended")
        request = self._machine.ledger.request(claim.job_id)
        generation = claim.generation or (request.generation if request else "")
        child = PartsChild(task.separation, parts, claim.job_id, generation)
        while not child.is_whole:
            lease.check()
            if shutdown.requested:
                raise Released
            child.go_on(actor)
        stems = {stem: Path(task.separation.out) / stem for stem in STEMS}
        for stem, path in stems.items():
            path.write_text(f"{stem} by {claim.token}")
        return Separated(stems, Ran("demo", CARD.weights_sha256, "cpu", 44_100, 1.0, 1.0), warnings=())

    def help(self, task: PartsTask, parts: PartsHelp, shutdown: Shutdown) -> None:
        actor = Actor.current()
        assert actor is not None
        child = PartsChild(task.separation, parts, parts.asked.job_id, parts.asked.generation)
        while not (parts.is_idle or parts.is_of_no_use):
            if shutdown.requested:
                raise Released
            child.go_on(actor)


class PartsChild:
    """Makes the parts of a song as it is told to, and sees that the parts of others are those that it needs."""

    def __init__(self, task: SeparationTask, parts: PartsExchange | PartsHelp, job_id: str, generation: str) -> None:
        self._of = f"{job_id} {generation}"
        self._parts = parts
        self._there: set[int] = set()
        self._orders: list[Order] = []
        self._folder = Path(task.out)
        self._folder.mkdir()
        self._tell(PartsBegun(PARTS, PARTS_KIND, SongLevel(PARTS * 100, 0.0, 1.0, "machine"), 100, STEMS))
        self._tell(RunWanted(0))

    @property
    def is_whole(self) -> bool:
        return len(self._there) == PARTS

    def go_on(self, actor: Actor) -> None:
        if not self._orders:
            self._tell(None)
        if not self._orders:
            actor.stand_before("wait for parts")
            return
        match self._orders.pop(0):
            case MakeRun(first, stop):
                for index in range(first, stop):
                    actor.stand_before("make part")
                    self._make(index)
                self._tell(RunWanted(stop))
            case UsePart(index, files):
                for stem, path in files.items():
                    assert Path(path).read_text() == self._content(index, stem), "a part that is not this song's"
                    Path(path).unlink()
                self._there.add(index)
            case NoMoreRuns():
                pass

    def _make(self, index: int) -> None:
        paths = {stem: self._folder / f"{index}.{stem}" for stem in STEMS}
        for stem, path in paths.items():
            path.write_text(self._content(index, stem))
        self._there.add(index)
        files = {stem: str(path) for stem, path in paths.items()}
        self._tell(PartMade(index, 100 * index, 100, files, dict.fromkeys(STEMS, 0), {}))

    def _content(self, index: int, stem: str) -> str:
        return f"part {index} of {stem} of {self._of}"

    def _tell(self, event: Event | None) -> None:
        self._orders += self._parts.orders(event)


class WorkerActor(Actor):
    """A worker at its work; between two jobs it stands before `take`."""

    def __init__(self, machine: Machine, worker_id: str) -> None:
        bench = machine.bench
        self.engine = Engine(machine, worker_id)
        self.shutdown = Shutdown(grace_seconds=60)
        worker = Worker(bench.settings, bench.queue, bench.store, self.engine, bench.scratch, worker_id=worker_id)  # type: ignore[arg-type]
        super().__init__(worker_id, lambda: worker.run(self.shutdown))

    @property
    def is_idle(self) -> bool:
        return self.point in (None, "take")


class Bench:
    """What all runs share: the servers, and the application over them."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.machine: Machine | None = None
        self.settings = Settings(
            model="demo",
            take_seconds=0.1,
            parts_least_seconds=0.5,  # the probe says a second
            renew_seconds=3600,  # what stands still is frozen
            max_lapses=MAX_LAPSES,
            callback_allow="127.0.0.1",
            store_patience_seconds=0,
        )
        self.raw = redis.Redis.from_url(redis_url, decode_responses=True)
        self.bare_queue = JobQueue(redis_url, policy=POLICY)
        self.bare_store = FileStore(folder / "store")
        self.bare_ledger = Ledger(self.bare_store)
        self.queue = cast(Any, Stepwise(self.bare_queue, self._queue_point, self._watch))
        self.store: Any = Stepwise(self.bare_store, store_point, self._watch)
        self.ledger = Ledger(self.store, guard=self.queue.guard)
        self.scratch = Scratch(folder / "scratch")
        self.app = create_app(self.settings, self.queue, self.store)
        while int(self.raw.info("server")["uptime_in_seconds"]) <= POLICY.grace_seconds:
            time.sleep(0.1)  # before that no sweep moves anything

    def reset(self, machine: Machine) -> None:
        """Begin a run with nothing in Redis and in the store."""
        self.machine = machine
        self.raw.flushall()
        shutil.rmtree(self.bare_store.root, ignore_errors=True)
        self.bare_store.prepare()

    def advance(self, seconds: float) -> None:
        """Let time pass for Redis, by moving all that it holds into the past."""
        self.raw.eval(
            """
            for _, key in ipairs({'unmix:leases', 'unmix:delayed', 'unmix:outbox', 'unmix:open', 'unmix:failed'}) do
              for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
                redis.call('ZINCRBY', key, -ARGV[1], member)
              end
            end
            for _, mark in ipairs(redis.call('HKEYS', 'unmix:marks')) do
              redis.call('HINCRBY', 'unmix:marks', mark, -ARGV[1])
            end
            """,
            0,
            round(seconds * 1000),
        )
        self.lapse_runs(seconds)

    def lapse_runs(self, seconds: float = 3600) -> None:
        """Let time pass for the runs of parts alone."""
        for key in self.raw.scan_iter(f"{keys.RUNS_PREFIX}*"):
            for part, state in cast(dict[str, str], self.raw.hgetall(key)).items():
                until, _, token = state.partition(":")
                if part.isdigit() and token:
                    self.raw.hset(key, part, f"{int(until) - round(seconds * 1000)}:{token}")

    def close(self) -> None:
        self.raw.close()
        self.bare_queue.close()
        self.scratch.close()

    def _queue_point(self, operation: str, args: tuple[Any, ...]) -> str | None:
        """Name a call to the queue by its method; what only looks or announces is no place to stand."""
        return None if operation == "ping" else operation

    def _watch(self, operation: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        return call() if self.machine is None else self.machine.watch(operation, args, call)
