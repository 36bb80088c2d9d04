"""The parent's side of the separating child: starts it, feeds it songs, watches it, and survives it.

The child (`unmix_worker.child`) holds torch and the loaded model; both talk in lines of JSON over pipes. A child that
crashes, runs out of memory or hangs takes no worker with it: the parent keeps the lease and decides what happens.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import structlog

from unmix.errors import EngineError, ModelUnavailableError, UnmixError
from unmix.job import ModelCard, Ran, SeparationOptions
from unmix.runtime.heartbeat import Heartbeat
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix_worker.lease import Lease

log = structlog.get_logger()

_LOGIN_PREFIXES: Final = ("UNMIX_REDIS_", "UNMIX_STORE_", "REDIS_", "MINIO_")
#: How often the parent looks at its lease and the clock while the child computes, in seconds.
TICK_SECONDS: Final = 0.2
#: What must be left of the grace after the expected end, in seconds: for upload, commit and finish.
DRAIN_RESERVE_SECONDS: Final = 10


class CrashedError(EngineError):
    """The child died or had to be killed over a song."""

    code = "engine_crashed"
    retryable = True


class ReleasedError(Exception):
    """The worker has to stop before this song can be finished."""


@dataclass(frozen=True, slots=True)
class SeparationTask:
    """One song for the child. Paths are absolute; `stems` empty means all sources."""

    song: str
    out: str
    model: str
    weights_sha256: str | None
    stems: tuple[str, ...]
    format: str
    bitrate_kbps: int
    mixture_consistency: bool

    @classmethod
    def of(cls, options: SeparationOptions, song_path: Path, out: Path, bitrate_kbps: int) -> Self:
        """Make the task that gives `options` for the song at `song_path`."""
        return cls(
            str(song_path.absolute()),
            str(out.absolute()),
            options.model,
            options.weights_sha256,
            options.stems,
            options.format,
            bitrate_kbps,
            options.mixture_consistency,
        )


@dataclass(frozen=True, slots=True)
class Separated:
    """What the child made."""

    stems: dict[str, Path]
    ran: Ran
    warnings: tuple[str, ...]


def child_environment() -> dict[str, str]:
    """Return the environment for a process that separates: this one's, and how it waits and keeps its memory.

    It decodes what strangers sent, so it is not told how to log in anywhere.
    """
    return {
        # A thread that spins for work steals the core of REST or of the next worker.
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
        # glibc would hand every large tensor back and fault it in again for the next segment (docs/engine.md).
        "MALLOC_MMAP_THRESHOLD_": str(2**30),
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
        "MALLOC_TOP_PAD_": str(2**26),
        **{name: value for name, value in os.environ.items() if not name.startswith(_LOGIN_PREFIXES)},
    }


class SeparationProcess:
    """The child and its model, kept warm between songs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._heartbeat = Heartbeat(settings.worker_heartbeat)
        self._child: subprocess.Popen[str] | None = None
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._card: ModelCard | None = None

    def ensure_ready(self, shutdown: Shutdown) -> ModelCard:
        """Start the child if none runs, wait until the default model is loaded, and return what it is.

        Raises:
            ModelUnavailableError: the weights cannot be had; no use to go on.
            CrashedError: the child ended while it loaded.
            ReleasedError: the shutdown came first.
        """
        if self._child is None or self._child.poll() is not None or self._card is None:
            self.close()
            self._start()
            event = self._wait_for("ready", shutdown)
            self._card = ModelCard(**{**event["card"], "sources": tuple(event["card"]["sources"])})
            log.info(
                "model loaded",
                model=self._card.name,
                weights_sha256=self._card.weights_sha256,
                backend=event["backend"],
                precision=event["precision"],
            )
        return self._card

    def separate(self, task: SeparationTask, lease: Lease, shutdown: Shutdown) -> Separated:
        """Separate one song and keep the lease's progress up to date.

        Raises:
            EngineError: the engine refused the song or failed.
            CrashedError: the child died, or made no progress for too long and was killed.
            LeaseLostError: somebody else owns the job now; the child was stopped.
            ReleasedError: there is not enough time left before the shutdown; the child was stopped.
        """
        self.ensure_ready(shutdown)
        self._send(asdict(task))
        pace: _Pace | None = None
        try:
            while True:
                event = self._next_event() or {"event": "tick"}
                if event["event"] != "tick":
                    self._heartbeat.beat()  # the worker is alive as far as its child gets on
                if event["event"] == "done":
                    return _separated(event)
                if event["event"] == "loaded":
                    pace = _Pace()
                elif event["event"] == "progress" and pace:
                    pace.advance(event["done"], event["total"])
                    lease.progress = event["done"] / event["total"]
                # After every event and tick: segments may come faster than ticks.
                lease.check()
                if shutdown.requested and not (pace and pace.ends_within(shutdown.seconds_left)):
                    raise ReleasedError
                if pace and pace.stalled(self._settings.stall_seconds):
                    raise CrashedError("no segment was finished for too long", code="stalled")
        except EngineError as error:
            if isinstance(error, CrashedError):
                self.close()
            raise
        except BaseException:
            self.close()  # the child would go on with a song that is not ours any more
            raise

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
            self._card = None

    def _start(self) -> None:
        self._events = queue.SimpleQueue()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "unmix_worker.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
            # Ctrl-C in a terminal goes to the whole group: the parent decides when the child stops.
            start_new_session=True,
        )
        threading.Thread(target=_read_events, args=(self._child, self._events), daemon=True).start()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(message) + "\n")
            self._child.stdin.flush()
        except OSError as error:
            raise CrashedError("the separating process ended before the song began") from error

    def _wait_for(self, name: str, shutdown: Shutdown) -> dict[str, Any]:
        while True:
            event = self._next_event()
            if event is not None and event["event"] == name:
                return event
            if event is None and shutdown.requested:
                self.close()
                raise ReleasedError

    def _next_event(self) -> dict[str, Any] | None:
        """Return the child's next event, or None after a tick without one; its errors are raised."""
        try:
            event = self._events.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return None
        if event is None:
            assert self._child is not None
            raise CrashedError(f"the separating process ended with status {self._child.wait()}")
        if event["event"] == "error":
            raise _error_of(event)
        return event


class _Pace:
    """How fast segments come, measured from the start of the separation."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._done = 0
        self._total: int | None = None

    def advance(self, done: int, total: int) -> None:
        self._last = time.monotonic()
        self._done, self._total = done, total

    @property
    def _segment_seconds(self) -> float:
        return (self._last - self._started) / self._done if self._done else 0.0

    def stalled(self, least_seconds: float) -> bool:
        """Whether the last segment is longer ago than ten usual ones."""
        return time.monotonic() - self._last > max(least_seconds, 10 * self._segment_seconds)

    def ends_within(self, seconds: float) -> bool:
        """Whether the song will be separated and delivered within `seconds`, as far as one can tell."""
        if self._total is None:
            return False
        return (self._total - self._done) * self._segment_seconds <= seconds - DRAIN_RESERVE_SECONDS


def _read_events(child: subprocess.Popen[str], events: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            events.put(json.loads(line))
    events.put(None)


def _error_of(event: dict[str, Any]) -> UnmixError:
    kind = ModelUnavailableError if event["code"] == ModelUnavailableError.code else EngineError
    return kind(event["message"], code=event["code"], retryable=event["retryable"])


def _separated(event: dict[str, Any]) -> Separated:
    return Separated(
        stems={stem: Path(path) for stem, path in event["stems"].items()},
        ran=Ran.from_fields(event["ran"]),
        warnings=tuple(event["warnings"]),
    )
