"""What is told of a job: the one shape that the server answers with, the client reads and the API's description shows.

Values only, no I/O. `unmix_rest.views` puts them together. They only grow: each version ignores what it does not know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from unmix.document import Growable
from unmix.job import JobStatus
from unmix.outcome import Music, Ran

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class View(Growable):
    """Something that is told."""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Read what a server of any version tells.

        Raises:
            ValueError: it is none.
        """
        kind: type = cls
        view: Self = _reader(kind).validate_python(fields)
        return view


@dataclass(frozen=True, slots=True)
class OptionsView(Growable):
    """What a job was told to do; no stems are all sources of the model."""

    model: str
    stems: tuple[str, ...]
    format: str
    mixture_consistency: bool
    bits: int
    start: float
    end: float | None
    bitrate_kbps: int | None = None  # of mp3; None is the workers' setting, and so with the next
    precision: str | None = None
    overlap: float = 0.25
    shifts: int = 0
    song_rate: bool = False


@dataclass(frozen=True, slots=True)
class StemView(Growable):
    """A stem that can be fetched."""

    url: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PartsView(Growable):
    """How many parts a long song has, how many of them can be heard, and where they are listed."""

    count: int
    there: int
    url: str


@dataclass(frozen=True, slots=True)
class CallbackView(Growable):
    """How it stands with the delivery of a callback; of one that is pending, what came of the last try."""

    state: str  # see `unmix.outcome.DeliveryState`
    delivered: bool
    at: str | None = None  # ISO 8601, UTC
    tries: int | None = None  # None while nobody knows
    error: str | None = None
    http_status: int | None = None
    next_try_at: str | None = None  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class JobView(View):
    """A job as it is at the moment. What is not known, or not yet, is None."""

    hash: str  # of the job
    songhash: str
    status: JobStatus
    name: str | None = None
    labels: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    options: OptionsView | None = None
    submitted_at: str | None = None  # ISO 8601, UTC
    finished_at: str | None = None  # likewise
    expires_at: str | None = None  # likewise: when the job and its stems may go
    duration_seconds: float | None = None  # of the song
    position: int | None = None  # in the queue, from 1
    progress: float = 0.0  # 0..1
    attempt: int = 0  # from 1
    retry_at: str | None = None  # ISO 8601, UTC
    error_code: str | None = None
    error: str | None = None
    stems: dict[str, StemView] = field(default_factory=dict)
    peaks: str | None = None  # their URL
    music: Music | None = None  # of what the stems are of; None where nobody has listened
    parts: PartsView | None = None
    ran: Ran | None = None
    label: str | None = None  # what has to be said wherever the stems are heard
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    callbacks: dict[str, CallbackView] = field(default_factory=dict)  # by number, once the job is over


@dataclass(frozen=True, slots=True)
class JobSummary(View):
    """A job in a list of them: `JobView` has the rest."""

    hash: str
    status: JobStatus
    name: str | None = None
    labels: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    submitted_at: str | None = None  # ISO 8601, UTC
    duration_seconds: float | None = None  # of the song
    progress: float = 0.0  # 0..1
    error_code: str | None = None


@cache
def _reader(kind: type) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter  # here, as it takes its time to load

    return TypeAdapter(kind)
