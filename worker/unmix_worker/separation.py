"""The parent's side of the separating child: keeps one with a loaded model, feeds it songs, and survives it.

The child (`unmix_worker.child`) holds torch and the model; `messages` has what both say over the pipes, `child_process`
what there is to a process. A child that crashes, takes too much memory or hangs takes no worker with it: the parent
keeps the lease and decides what happens.
"""

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog

from unmix.errors import DeviceError, EngineError, LeaseLostError
from unmix.outcome import Music, Ran
from unmix.queue.records import ModelCard, WorkerState
from unmix.resources import memory_limit_bytes
from unmix.runtime import traces
from unmix.runtime.heartbeat import Heartbeat
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix_worker.child_process import ChildProcess, CrashedError, MemoryExceededError
from unmix_worker.lease import Lease, Released
from unmix_worker.memory import peak_bytes, room_for_child_bytes
from unmix_worker.messages import (
    Abandon,
    Abandoned,
    Done,
    Event,
    Loaded,
    Order,
    PartsJoined,
    PartsTask,
    Progress,
    Ready,
    SeparationTask,
)
from unmix_worker.pace import Pace
from unmix_worker.parts import PartsExchange, PartsHelp

log = structlog.get_logger()

#: How long a child has to leave a song that is not wanted any more, in seconds, or two segments if that is longer; to
#: load its model anew would take about as long.
ABANDON_SECONDS: Final = 10
#: Errors after which there is no child any more, or none that could go on.
_ENDS: Final = (CrashedError, MemoryExceededError, DeviceError)


@dataclass(frozen=True, slots=True)
class Separated:
    """What the child made."""

    stems: dict[str, Path]
    ran: Ran
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    peaks: dict[str, Any] = field(default_factory=dict)  # as `Done` has them
    music: Music | None = None


class SeparationProcess:
    """The child and its model, kept warm between songs."""

    def __init__(self, settings: Settings) -> None:
        self.state = WorkerState.LOADING
        self._settings = settings
        self._heartbeat = Heartbeat(settings.worker_heartbeat)
        self._child: ChildProcess | None = None
        self._card: ModelCard | None = None
        self.ready: Ready | None = None  # what the child that runs has said of its model
        self.crashes: Counter[str] = Counter()  # of children over songs, by code
        self._models: set[str] = set()  # that the child was asked for
        self.parts_kind = ""  # of the parts that the child makes with its default model
        self._known: tuple[str, ...] = ()  # fields of a task that the child does not ignore
        limit = settings.worker_memory_mb << 20 if settings.worker_memory_mb else memory_limit_bytes()
        self._room_bytes = room_for_child_bytes(limit)
        self._has_loaded = False  # the default model, once at least

    def ensure_ready(self, shutdown: Shutdown) -> ModelCard:
        """Start the child if none runs, wait until the default model is loaded, and return what it is.

        Raises:
            ModelUnavailableError: the weights cannot be had; no use to go on.
            CrashedError: the child ended while it loaded.
            MemoryExceededError: it ended so for want of memory, of which there was enough before.
            DeviceError: the device has failed.
            EngineError: the model was not loaded in time, or needs more memory than there is (`memory_too_small`).
            Released: the shutdown came first.
        """
        if self._child is None or self._child.has_ended or self._card is None:
            self.close()
            self.state = WorkerState.LOADING
            self._models = set()
            self._child = ChildProcess(self._room_bytes)
            try:
                ready = self._wait_until_ready(shutdown)
            except MemoryExceededError as error:
                self._refuse_too_small_a_limit(error)
                raise
            self._refuse_too_little_memory(ready)
            self._has_loaded = True
            self.state = WorkerState.READY
            self._card = ready.card
            self.ready = ready
            self.parts_kind = ready.parts_kind
            self._known = ready.knows
            log.info(
                "model loaded",
                model=self._card.name,
                weights_sha256=self._card.weights_sha256,
                backend=ready.backend,
                precision=ready.precision,
            )
        return self._card

    @property
    def child_pid(self) -> int | None:
        """The number of the child's process, None if there is none."""
        child = self._child  # once: whoever asks may be another thread
        return None if child is None else child.pid

    @traces.traced("separate")
    def separate(
        self, task: SeparationTask | PartsTask, lease: Lease, shutdown: Shutdown, parts: PartsExchange | None = None
    ) -> Separated:
        """Separate one song, in `parts` if it has any, and keep the lease's progress up to date.

        Raises:
            EngineError: the engine refused the song or failed, or the model was not loaded in time.
            CrashedError: the child died, or was killed as it made no progress for too long.
            MemoryExceededError: the child took more memory than it may, and was killed for that.
            DeviceError: the device failed; the child has ended.
            LeaseLostError: somebody else owns the job now, or nobody; the child has left it, or was stopped.
            Released: there is not enough time left before the shutdown; the child was stopped.
        """
        self.ensure_ready(shutdown)
        self._refuse_what_is_unknown(task)
        self._send(task)
        asked_at = time.monotonic()
        pace: Pace | None = None
        try:
            while True:
                event = self._next_event()
                if event is not None:
                    self._heartbeat.beat()  # the worker is alive as far as its child gets on
                if isinstance(event, Done):
                    self._note_memory()
                    stems = {stem: Path(path) for stem, path in event.stems.items()}
                    return Separated(stems, event.ran, event.warnings, event.notes, event.peaks, event.music)
                if isinstance(event, Loaded):
                    pace = Pace()
                elif isinstance(event, Progress) and pace:
                    pace.advance(event.done, event.total)
                    lease.progress = event.done / event.total
                elif isinstance(event, PartsJoined) and pace:
                    pace.go_on()  # when all windows are done, many parts may have to be encoded yet
                if parts is not None:
                    self._order(parts, event, pace)
                    lease.progress = parts.progress or lease.progress
                # After every event and tick: segments may come faster than ticks.
                lease.check()
                if shutdown.requested and not (pace and pace.ends_within(shutdown.seconds_left)):
                    raise Released
                if pace is None:
                    self._refuse_endless_load(asked_at)
                elif pace.stalled(self._settings.stall_seconds):
                    raise CrashedError("no segment was finished for too long", code="stalled")
        except EngineError as error:
            self._note_end(error)
            if parts is not None:
                parts.failed(error)
            raise
        except LeaseLostError:
            self._abandon(pace, shutdown)  # the next song needs the model
            raise
        except BaseException:
            self.close()  # the child would go on with a song that is not ours any more
            raise

    def help(self, task: PartsTask, parts: PartsHelp, shutdown: Shutdown) -> None:
        """Make parts of a song that another worker has claimed, until there is nothing to do or to stop.

        Raises:
            EngineError, CrashedError, MemoryExceededError, DeviceError: as `separate`.
            Released: the shutdown came first; the child was stopped.
        """
        self.ensure_ready(shutdown)
        self._refuse_what_is_unknown(task)
        self._send(task)
        pace = Pace()
        self.state = WorkerState.HELPING
        try:
            while not parts.is_idle:
                event = self._next_event()
                if event is not None:
                    self._heartbeat.beat()
                    pace.go_on()
                for order in parts.orders(event):
                    self._send(order)
                if shutdown.requested:
                    raise Released
                if parts.is_of_no_use:
                    self._abandon(pace, shutdown)
                    return
                if pace.stalled(max(self._settings.stall_seconds, self._settings.load_seconds)):
                    raise CrashedError("no part was finished for too long", code="stalled")
        except EngineError as error:
            self._note_end(error)
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self.state = WorkerState.READY

    def _abandon(self, pace: Pace | None, shutdown: Shutdown) -> None:
        """Have the child leave its song, or end it if it does not soon."""
        patience_seconds = max(ABANDON_SECONDS, 2 * pace.segment_seconds if pace else 0)
        deadline = time.monotonic() + min(patience_seconds, self._settings.stall_seconds)
        with suppress(CrashedError):
            self._send(Abandon())
        while not shutdown.requested and time.monotonic() < deadline:
            try:
                if isinstance(self._next_event(), Abandoned):
                    return
            except EngineError as error:
                if isinstance(error, _ENDS):
                    break
        log.info("the child is ended, as it does not leave its song")
        self.close()

    def _order(self, parts: PartsExchange, event: Event | None, pace: Pace | None) -> None:
        """Hand the event of a child that makes parts on, and tell it what to do next."""
        began = time.monotonic()
        for order in parts.orders(event):
            self._send(order)
        if pace:
            # Neither Redis, the store nor other workers are what the child is judged by.
            pace.pass_over(time.monotonic() - began)
            if parts.is_waiting:
                pace.go_on()
        if parts.is_waiting:
            self._heartbeat.beat()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None
            self._card = None
            self.ready = None

    def _note_end(self, error: EngineError) -> None:
        """Count and clear away a child that has ended, or is of no use any more."""
        if isinstance(error, _ENDS):
            self.crashes[error.code] += 1
            self.close()

    def _note_memory(self) -> None:
        """Write on the card what a song has taken at most, as far as the child was asked for no other model."""
        assert self._child is not None
        assert self._card is not None
        if self._models == {self._card.name} and (taken := peak_bytes(self._child.pid)):
            self._card = replace(self._card, memory_mb=taken >> 20)

    def _send(self, order: Order) -> None:
        assert self._child is not None
        if isinstance(order, SeparationTask | PartsTask):
            self._models.add((order.separation if isinstance(order, PartsTask) else order).model)
        self._child.send(order)

    def _refuse_what_is_unknown(self, task: SeparationTask | PartsTask) -> None:
        """Ask a child of an earlier version for nothing that it would ignore: the stems would be others."""
        separation = task.separation if isinstance(task, PartsTask) else task
        if unknown := separation.unknown_to(self._known):
            message = f"the separating process is of another version: it does not know {', '.join(unknown)}"
            raise EngineError(message, code="bad_task", retryable=True)

    def _wait_until_ready(self, shutdown: Shutdown) -> Ready:
        started_at = time.monotonic()
        while True:
            event = self._next_event()
            if isinstance(event, Ready):
                return event
            if event is None and shutdown.requested:
                self.close()
                raise Released
            self._refuse_endless_load(started_at)

    def _refuse_too_little_memory(self, ready: Ready) -> None:
        """Take no songs that the child would be killed over, one after the other."""
        if self._room_bytes is not None and ready.needed_mb << 20 > self._room_bytes:
            self.close()
            raise EngineError(
                f"{ready.card.name} needs {ready.needed_mb} MiB, and the memory limit of this worker leaves "
                f"{self._room_bytes >> 20} MiB to its separating process: raise the limit",
                code="memory_too_small",
            )

    def _refuse_too_small_a_limit(self, error: MemoryExceededError) -> None:
        """Say that the model can never be loaded here, unless it was before or nobody limits us."""
        if self._room_bytes is not None and not self._has_loaded:
            raise EngineError(
                f"{error.message} while it loaded {self._settings.model}: the memory limit of this worker is too small "
                "for that model, raise it",
                code="memory_too_small",
            ) from error

    def _refuse_endless_load(self, began_at: float) -> None:
        """End a child that loads its model for too long; it is no crash, as the song is not to blame."""
        if time.monotonic() - began_at > self._settings.load_seconds:
            self.close()
            raise EngineError(
                f"the model was not loaded within {self._settings.load_seconds:g} s (UNMIX_LOAD_SECONDS)",
                code="load_stalled",
                retryable=True,
            )

    def _next_event(self) -> Event | None:
        """See `ChildProcess.next_event`."""
        assert self._child is not None
        return self._child.next_event()
