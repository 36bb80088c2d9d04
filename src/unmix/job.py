"""A job: one song to be separated with certain options. Values only, no I/O.

Of the two documents that make the object store the ledger `JobRequest` is written before the job is queued; the
outcome, which ends it, is `unmix.outcome`'s. Both can grow (`unmix.document`). Whatever is not such a document is
damaged: something else stands for it then (`unmix.ledger.documents`).
"""

import hashlib
import json
import secrets
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Self

from unmix import names
from unmix.document import SCHEMA, Growable, load, seconds_of, with_tuples

#: How precisely a model may be asked to compute.
PRECISIONS: Final = ("exact", "fast")
#: Options that are the worker's where nobody chose them.
_WORKERS: Final = ("bitrate_kbps", "precision")

#: Most labels of a job, and most batches.
MAX_LABELS: Final = 16


class JobStatus(StrEnum):
    """The five states of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether the job will not change any more."""
        return self in (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class SeparationOptions(Growable):
    """Effective options: everything that decides the bytes of the stems.

    `stems` empty means all sources of the model. `weights_sha256` is None while no worker has announced the model;
    it then matches any weights of that name. With `mixture_consistency` the sources add up to the song. Bit rate and
    precision are None where nobody chose one: they are then the worker's, and match any.
    """

    model: str
    stems: tuple[str, ...] = ()
    format: str = "mp3"
    weights_sha256: str | None = None
    mixture_consistency: bool = False
    bits: int = 16  # of a sample, as the format has them
    start: float = 0.0  # in seconds; stems are of what lies between
    end: float | None = None  # None: the end of the song
    bitrate_kbps: int | None = None  # of lossy formats
    precision: str | None = None  # `exact` or `fast`
    overlap: float = 0.25  # of windows; as the next, see `unmix.audio.passes`
    shifts: int = 0
    song_rate: bool = False  # stems have the sample rate of their song

    def variant(self, defaults: "SeparationOptions") -> str:
        """Return the short digest of what differs from `defaults`, empty if nothing does."""
        usual = defaults._deciding
        chosen = {name: value for name, value in self._deciding.items() if value not in (None, usual[name])}
        if not chosen:
            return ""
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]

    def job_id(self, song_hash: str, defaults: "SeparationOptions") -> str:
        """Return the id of the job that separates `song_hash` with these options."""
        variant = self.variant(defaults)
        return f"{song_hash}.{variant}" if variant else song_hash

    def same_result_as(self, other: "SeparationOptions") -> bool:
        """Tell whether both give the same stems, as far as the weights are known."""
        if self.weights_sha256 and other.weights_sha256 and self.weights_sha256 != other.weights_sha256:
            return False
        one, another = self._deciding, other._deciding
        return all(
            value == another[name] or (name in _WORKERS and None in (value, another[name]))
            for name, value in one.items()
        )

    @property
    def _deciding(self) -> dict[str, Any]:
        """What a client chose, by name; the weights come with the model."""
        return {
            "model": self.model,
            "stems": sorted(self.stems),
            "format": self.format,
            "mixture_consistency": self.mixture_consistency,
            "bits": self.bits,
            "start": self.start,
            "end": self.end,
            "bitrate_kbps": self.bitrate_kbps,
            "precision": self.precision,
            "overlap": self.overlap,
            "shifts": self.shifts,
            "song_rate": self.song_rate,
        }


@dataclass(frozen=True, slots=True)
class Callback(Growable):
    """Where to report the end of a job, and what to say there."""

    url: str
    data: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()  # which ends are told, by their status; none: all
    asker: str = field(default="", compare=False)  # whose it is among the callbacks of its job, and told to nobody

    def wants(self, status: JobStatus) -> bool:
        """Tell whether it asks for this end of a job."""
        return not self.events or status.value in self.events


@dataclass(frozen=True, slots=True)
class SongLevel(Growable):
    """What the check of an upload measured, so that a worker need not: see `unmix.audio.level`."""

    samples: int
    mean: float
    std: float
    measured_by: str  # workers of another version measure again
    own_rate: int = 0  # Hz; 0 in what earlier versions wrote
    own_samples: int = 0


@dataclass(frozen=True, slots=True)
class JobRequest(Growable):
    """The request document: what is owed. A new `generation` makes every earlier outcome count as none."""

    job_id: str
    options: SeparationOptions
    submitted_at: str  # ISO 8601, UTC; for people: the queue's only clock is Redis TIME
    callbacks: tuple[Callback, ...] = ()
    generation: str = field(default_factory=lambda: secrets.token_hex(8))
    schema: int = SCHEMA
    duration_seconds: float | None = None  # by counted samples; None for a foreign push, which was not probed
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # of the song's check, as the warnings
    level: SongLevel | None = None  # None for a foreign push, and in documents of older versions
    name: str | None = None  # what people call the song
    labels: tuple[str, ...] = ()  # what clients find it by
    batches: tuple[str, ...] = ()  # what it was submitted with, the last one at the end
    url: str | None = None  # where the song is to be fetched, if it did not come with the request
    tenant: str = names.MAIN_TENANT  # whose job it is
    song_sha256: str | None = None  # of the song's bytes, which its hash in the id tells for the main tenant only
    traceparent: str | None = None  # the trace that the job is part of (W3C Trace Context); None: it is in none

    @property
    def song_hash(self) -> str:
        """What the song is called by: its hash, or what stands for that; drawn at random if it has a `url`."""
        return names.song_hash_of(self.job_id)

    @property
    def wanted_sha256(self) -> str | None:
        """The SHA-256 that the song's bytes must have; None if nobody knows it, as of a song with a `url`."""
        return self.song_sha256 or (None if self.url else self.song_hash)

    @property
    def computed_seconds(self) -> float | None:
        """How much of the song is to be separated, as often as its options ask for; None if that is not known."""
        options = self.options
        if self.duration_seconds is None or not 0 <= options.overlap < 1:  # a document may say anything
            return None
        end = self.duration_seconds if options.end is None else min(options.end, self.duration_seconds)
        usual = SeparationOptions(options.model).overlap
        return max(0.0, end - options.start) * max(1, options.shifts) * (1 - usual) / (1 - options.overlap)

    def joined_by(self, other: "JobRequest") -> Self:
        """Return this request with what another submission of the job adds; itself if that is nothing."""
        joined = replace(
            self,
            callbacks=(*self.callbacks, *(each for each in other.callbacks if each not in self.callbacks)),
            name=self.name or other.name,
            labels=_newest(self.labels, other.labels),
            batches=_newest(self.batches, other.batches),
        )
        return self if joined == self else joined

    def again(self, submitted_at: str) -> Self:
        """Return the same request as a new submission, for which no earlier outcome counts."""
        return replace(self, submitted_at=submitted_at, generation=secrets.token_hex(8))

    @property
    def submitted_at_seconds(self) -> float:
        """`submitted_at` as seconds since the epoch, 0 if it is no time."""
        return seconds_of(self.submitted_at)

    def to_json(self) -> bytes:
        """Return the document's bytes."""
        return json.dumps(self.to_fields(), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read the document back.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, RecursionError: the bytes are not such a document.
        """
        given = load(data)
        options = with_tuples(given["options"], "stems")
        read = {
            "options": SeparationOptions.from_fields(options),
            "callbacks": tuple(
                Callback.from_fields(with_tuples({"events": (), **callback}, "events"))
                for callback in given["callbacks"]
            ),
            "level": SongLevel.from_fields(given["level"]) if given.get("level") else None,
            # Older ones have no number, and must not get that of today by default.
            "schema": given.get("schema", 0),
        }
        growing = {"notes": (), "labels": (), "batches": (), **given}
        return cls.from_fields({**with_tuples(growing, "warnings", "notes", "labels", "batches"), **read})


class DamagedRequest(JobRequest):
    """Stands for a request document that cannot be read: a job that can only fail."""

    @classmethod
    def of(cls, job_id: str, data: bytes) -> Self:
        """Stand for the unreadable `data`; the generation is theirs, so that the failure can be committed."""
        options = SeparationOptions(model="")
        generation = f"damaged-{hashlib.sha256(data).hexdigest()[:16]}"
        return cls(job_id, options, "unknown", generation=generation, tenant=names.presumed_tenant(job_id))


def _newest(known: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    """Return what was known and what is new of `added`, without the oldest where that is too much."""
    return tuple(dict.fromkeys((*known, *added)))[-MAX_LABELS:]
