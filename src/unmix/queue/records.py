"""What the queue gives out: values, as they were a moment ago. Nothing here needs Redis itself."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from unmix.job import JobStatus


@dataclass(frozen=True, slots=True)
class Claim:
    """One worker's right to a job, worth as much as its token."""

    job_id: str
    token: str
    attempt: int  # from 1
    generation: str | None  # None: a foreign push, of which nothing was known before
    failures: int  # that may pass
    crashes: int  # of the separating process under a live worker
    lapses: int  # deaths of whole workers


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What Redis knows of a job that is not over, or was until a moment ago."""

    status: JobStatus
    attempt: int
    progress: float  # 0..1
    worker: str | None
    retry_at_ms: int | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """How many jobs a sweep put back to the head of the queue, by reason."""

    retries: int
    lapsed: int
    unclaimed: int


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How much there is to do."""

    waiting: int
    open: int
    running: int
    delayed: int
    outbox: int
    damaged: int  # documents in the store that could not be read
    taken: int  # by a worker that has not claimed them yet
    oldest_seconds: float  # age of the oldest job that is not over, 0 if there is none


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """What Redis held a moment ago. Read in several steps: what moved meanwhile may be missing."""

    present: frozenset[str]  # elements that wait, are taken, leased or delayed
    open: frozenset[str]
    failed: frozenset[str]
    outbox: frozenset[tuple[str, int]]  # (job_id, index of the callback in the request)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a worker announces of a model that it has loaded."""

    name: str
    weights_sha256: str
    sources: tuple[str, ...]
    sample_rate: int  # Hz
    weights_source: str | None = None  # None on the cards of older workers
    weights_licence: str | None = None
    memory_mb: int | None = None  # most MiB that a worker's separating process has taken over songs; None: no song yet
    announced_at: str | None = field(default=None, compare=False)  # the last time, as its worker put it up


class WorkerState(StrEnum):
    """What a worker does."""

    LOADING = "loading"  # its model: it takes no songs yet
    READY = "ready"  # for songs, or busy with one of its own
    HELPING = "helping"  # with the parts of another worker's song


@dataclass(frozen=True, slots=True)
class Attendant:
    """A worker that is there, as it said last."""

    worker: str
    host: str  # in Kubernetes the name of its pod
    state: WorkerState
    noted_at_ms: int


@dataclass(frozen=True, slots=True)
class LastWords:
    """How a worker ended."""

    worker: str
    at_ms: int
    code: str | None = None  # None: it was asked to, or has said nothing
    error: str | None = None
    is_silent: bool = False  # it died without a word

    @classmethod
    def of_the_silent(cls, gone: Attendant) -> Self:
        """Return the same of one that has not been heard of for long."""
        return cls(gone.worker, gone.noted_at_ms, is_silent=True)
