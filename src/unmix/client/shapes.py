"""What a client is told beside jobs, whose shapes are `unmix.job_view`'s. Values only."""

from dataclasses import dataclass

from unmix.job_view import View


@dataclass(frozen=True, slots=True)
class Failure(View):
    """A job that failed."""

    hash: str  # of the job
    error_code: str | None = None
    error: str | None = None
    finished_at: str | None = None  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class WeightsView(View):
    """Which weights a model has, and what they may be used for."""

    sha256: str
    source: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class ModelView(View):
    """A model that may be named; what is not known until a worker has announced it is None."""

    name: str
    default: bool
    offered: bool  # whether the operator lets its weights be used
    announced: bool
    announced_at: str | None = None  # ISO 8601, UTC
    realtime_factor: float | None = None  # seconds of work for a second of song
    stems: tuple[str, ...] | None = None
    weights: WeightsView | None = None


@dataclass(frozen=True, slots=True)
class WorkersView(View):
    """Who separates songs at a server."""

    ready: int
    loading: int
    message: str | None = None  # why nobody is ready


@dataclass(frozen=True, slots=True)
class Waiting(View):
    """What waits at a server, and what runs."""

    queue: tuple[str, ...]
    total: int
    running: tuple[str, ...]
    workers: WorkersView | None = None  # None: a server of an earlier version
