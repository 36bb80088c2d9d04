"""What is told beside jobs: the shape of every answer that is JSON and no `unmix.job_view`.

Older clients know some of these, whose fields and their order stay as they are. Values only, no I/O.
"""

from dataclasses import dataclass

from unmix.job import JobStatus
from unmix.job_view import JobSummary, StemView, View
from unmix.outcome import DeliveryState


@dataclass(frozen=True, slots=True)
class Accepted(View):
    """A song that was taken in, as older clients know it."""

    hash: str  # of the job
    songhash: str
    reason: str
    status: JobStatus
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobPage(View):
    """Some jobs of the list, and the URL of those that follow, if any do."""

    jobs: tuple[JobSummary, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Changed(View):
    """A job that was cancelled or submitted again."""

    hash: str
    status: JobStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Redelivery(View):
    """A callback that is owed again."""

    hash: str
    callback: int  # its number
    state: DeliveryState
    reason: str


@dataclass(frozen=True, slots=True)
class SessionView(View):
    """Whether a key is wanted here, and what is known of the one that the browser has signed in with, null if none."""

    needs_key: bool
    name: str | None
    tenant: str | None
    scopes: tuple[str, ...]
    expires_at: str | None  # of the key; the session may end before


@dataclass(frozen=True, slots=True)
class LinkView(View):
    """A link: whoever has it may see and hear the job, without a key."""

    url: str  # of the job; `link` opens the URLs in its answer too
    link: str
    expires_at: str


@dataclass(frozen=True, slots=True)
class QuotaView(View):
    """A quota: how much there is, and how much of it is used."""

    limit: float
    used: float
    window_seconds: float | None  # in which all of it comes back, evenly; null: what is over is free again
    full_at: str | None  # when nothing of it is used any more; null: nothing is, or nobody knows


@dataclass(frozen=True, slots=True)
class UsageView(View):
    """The quotas of whoever asks, by name; those that are not set are missing."""

    quotas: dict[str, QuotaView]


@dataclass(frozen=True, slots=True)
class Workers(View):
    """Who separates songs."""

    ready: int  # for songs, or busy with one
    loading: int  # their models
    message: str | None  # why nobody is ready; null if somebody is


@dataclass(frozen=True, slots=True)
class Waiting(View):
    """What waits, how much that is in all, and what runs, as far as the caller may see it."""

    queue: tuple[str, ...]
    total: int  # those of other tenants included
    running: tuple[str, ...]
    positions: tuple[int, ...]  # of each in `queue`, from 1
    running_total: int  # those of other tenants included
    workers: Workers | None  # null if Redis does not tell


@dataclass(frozen=True, slots=True)
class Failure(View):
    """A job that failed; null is what nobody knows any more."""

    hash: str
    error_code: str | None
    error: str | None
    finished_at: str | None


@dataclass(frozen=True, slots=True)
class Failures(View):
    """What failed, and how much that is in all."""

    failed: tuple[Failure, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Weights(View):
    """Which weights a model has, where they come from, and what they may be used for."""

    sha256: str
    source: str | None
    licence: str | None


@dataclass(frozen=True, slots=True)
class Model(View):
    """A model that may be named; the rest is null until a worker has announced it."""

    name: str
    default: bool
    offered: bool  # its weights may be used, by `UNMIX_WEIGHTS`
    announced: bool
    announced_at: str | None = None  # ISO 8601, UTC
    realtime_factor: float | None = None  # seconds of work for a second of song, on this server's workers
    memory_mb: int | None = None  # MiB of a worker's separating process at most, without what is on a GPU
    stems: tuple[str, ...] | None = None
    sample_rate: int | None = None
    weights: Weights | None = None


@dataclass(frozen=True, slots=True)
class Models(View):
    """The models that may be named, the default one first."""

    models: tuple[Model, ...]
    song_urls: bool  # whether a song may be given by its URL


@dataclass(frozen=True, slots=True)
class PartStem(StemView):
    """A stem of a part, and what to draw of it: the lowest and the highest sample of each pixel, in turn."""

    peaks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Part(View):
    """A stretch of a song that can be heard; `start` and `samples` are in samples."""

    index: int
    start: int
    samples: int
    stems: dict[str, PartStem]


@dataclass(frozen=True, slots=True)
class Parts(View):
    """The parts of a long song, and some of those that are there."""

    hash: str
    count: int
    length: int  # of every part but the last, in samples
    sample_rate: int
    samples_per_pixel: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Peaks(View):
    """What to draw of the stems of a done job, as the worker has left it: see `unmix.audio.peaks`."""

    version: int
    sample_rate: int
    samples_per_pixel: int
    bits: int
    stems: dict[str, tuple[int, ...]]
    beats: tuple[float, ...] = ()  # in seconds; missing where no worker has listened


@dataclass(frozen=True, slots=True)
class UploadView(View):
    """How far an upload is: the byte that it goes on at, and how many the song has, if that is known."""

    upload_id: str
    offset: int
    size_bytes: int | None
    complete: bool
    expires_at: str


@dataclass(frozen=True, slots=True)
class Ticket(UploadView):
    """Where and how to send a song; pieces are advised to have `piece_bytes`, null where it comes in one piece."""

    url: str
    method: str
    headers: dict[str, str]
    resumable: bool
    piece_bytes: int | None


@dataclass(frozen=True, slots=True)
class StemRemoved(View):
    """A stem that is gone."""

    hash: str
    track: str
    reason: str


@dataclass(frozen=True, slots=True)
class Removed(View):
    """A job that is gone, with all that belonged to it alone."""

    hash: str
    reason: str


@dataclass(frozen=True, slots=True)
class Health(View):
    """That the process lives."""

    status: str


@dataclass(frozen=True, slots=True)
class Ready(View):
    """That all is there that the service needs."""

    status: str
    checks: dict[str, str]
    decoder_sandbox: tuple[str, ...]  # what shuts the check of songs in; none: only limits do
    workers: Workers | None  # null if Redis does not tell; songs are taken in and wait without any


@dataclass(frozen=True, slots=True)
class Version(View):
    """Which service and version this is."""

    name: str
    version: str
