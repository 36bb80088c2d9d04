"""A job: one song to be separated with certain options. Values only, no I/O.

The two documents that make the object store the ledger are defined here. `JobRequest` is written before the job is
queued; `Outcome` ends it. Both can grow (`unmix.document`). Whatever is not such a document is damaged: something else
stands for it then (`unmix.ledger.documents`).
"""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from unmix import names
from unmix.document import SCHEMA, Growable, load

#: A part of a name that leads nowhere else: of a token, a format, a file.
_WORD: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_HEX: Final = re.compile(r"[0-9a-f]*")

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
    bitrate_kbps: int | None = None  # of mp3
    precision: str | None = None  # `exact` or `fast`
    overlap: float = 0.25  # of windows; as the next, see `unmix.audio.passes`
    shifts: int = 0

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
        }


@dataclass(frozen=True, slots=True)
class Callback(Growable):
    """Where to report the end of a job, and what to say there."""

    url: str
    data: dict[str, Any] = field(default_factory=dict)
    events: tuple[str, ...] = ()  # which ends are told, by their status; none: all

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

    @property
    def song_hash(self) -> str:
        """The hash of the song to be separated."""
        return names.song_hash_of(self.job_id)

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
        return _seconds(self.submitted_at)

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
        options = _with_tuples(given["options"], "stems")
        read = {
            "options": SeparationOptions.from_fields(options),
            "callbacks": tuple(
                Callback.from_fields(_with_tuples({"events": (), **callback}, "events"))
                for callback in given["callbacks"]
            ),
            "level": SongLevel.from_fields(given["level"]) if given.get("level") else None,
            # Older ones have no number, and must not get that of today by default.
            "schema": given.get("schema", 0),
        }
        growing = {"notes": (), "labels": (), "batches": (), **given}
        return cls.from_fields({**_with_tuples(growing, "warnings", "notes", "labels", "batches"), **read})


class DamagedRequest(JobRequest):
    """Stands for a request document that cannot be read: a job that can only fail."""

    @classmethod
    def of(cls, job_id: str, data: bytes) -> Self:
        """Stand for the unreadable `data`; the generation is theirs, so that the failure can be committed."""
        options = SeparationOptions(model="")
        generation = f"damaged-{hashlib.sha256(data).hexdigest()[:16]}"
        return cls(job_id, options, "unknown", generation=generation)


@dataclass(frozen=True, slots=True)
class StemFile(Growable):
    """One delivered stem, or what goes with the stems: where this attempt put it, and what lies there."""

    key: str  # in the bucket `output`
    size_bytes: int
    sha256: str

    @property
    def is_sound(self) -> bool:
        """Whether size and digest are what they can be."""
        return self.size_bytes >= 0 and _HEX.fullmatch(self.sha256) is not None


@dataclass(frozen=True, slots=True)
class SongPart(Growable):
    """The document of a part: a stretch of the song that is separated, as one FLAC per stem.

    Written once, after its files; whoever makes the part a second time leaves the first one alone. Never a result.
    """

    index: int  # from 0, in the order of the song
    start: int  # first sample, per channel, at the rate of the stems
    samples: int
    stems: dict[str, StemFile]
    worker: str  # who made it
    clipped: dict[str, int] = field(default_factory=dict)  # samples of each stem that were clamped
    peaks: dict[str, list[int]] = field(default_factory=dict)  # of each stem: see `unmix.audio.peaks`
    schema: int = SCHEMA

    def to_json(self) -> bytes:
        """Return the document's bytes."""
        return json.dumps(self.to_fields(), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes, folder: str) -> Self:
        """Read the document back; `folder` is what the keys of its files have to begin with.

        Raises:
            ValueError, KeyError, TypeError, AttributeError, RecursionError: the bytes are not such a document.
        """
        given = load(data)
        part = cls.from_fields(
            {**given, "stems": {name: StemFile.from_fields(stem) for name, stem in given["stems"].items()}}
        )
        if min(part.index, part.start, part.samples - 1) < 0 or not all(
            names.is_stem(stem)
            and file.is_sound
            and file.key.startswith(folder)
            and _WORD.fullmatch(file.key.removeprefix(folder))
            for stem, file in part.stems.items()
        ):
            raise ValueError("it names files that cannot be its own")
        return part


@dataclass(frozen=True, slots=True)
class RanParts(Growable):
    """Who made the parts of a song that was separated in parts, as the worker saw it that joined them."""

    kind: str  # of the parts: see `unmix.ledger.parts`
    count: int
    length: int  # of every part but the last, in samples
    made: dict[str, int]  # how many of them each worker made
    found: int = 0  # of them were there when the last attempt began
    again: int = 0  # were made a second time, as the first was damaged or came at the same time


@dataclass(frozen=True, slots=True)
class Ran(Growable):
    """What really ran, as the worker saw it."""

    model: str
    weights_sha256: str
    device: str
    sample_rate: int  # Hz, of the model
    duration_seconds: float  # of the song, by decoded samples
    processing_seconds: float
    backend: str = ""  # library and version; empty in documents of older workers
    precision: str = ""  # `exact` or `fast`
    weights_source: str = ""  # where the weights come from; empty, as the next, in documents of older workers
    weights_licence: str = ""  # what they may be used for, as their author says
    parts: RanParts | None = None  # None: the song was separated as a whole
    bitrate_kbps: int | None = None  # of mp3; None for other formats, and in documents of older workers

    def gives(self, options: SeparationOptions) -> bool:
        """Tell whether the weights, precision and bit rate that `options` name are those that ran, if it is known."""
        return (
            options.weights_sha256 in (None, self.weights_sha256)
            and (options.precision, self.precision) != ("exact", "fast")  # `fast` may well have run as `exact`
            and (None in (options.bitrate_kbps, self.bitrate_kbps) or options.bitrate_kbps == self.bitrate_kbps)
        )


class DeliveryState(StrEnum):
    """How it stands with a delivery; all but the first are ends."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"
    GONE = "gone"  # the receiver does not want to be called any more
    UNWANTED = "unwanted"  # the callback does not ask for this end of the job


@dataclass(frozen=True, slots=True)
class Delivery(Growable):
    """How the delivery of one callback ended."""

    delivered: bool
    at: str  # ISO 8601, UTC
    tries: int
    error: str | None = None  # of the last try, if it did not arrive
    http_status: int | None = None  # of the last answer, if there was one
    state: str = ""  # a `DeliveryState`; empty in documents of older versions

    @property
    def ended_as(self) -> str:
        """How it ended, also where the document does not say it in so many words."""
        return self.state or (DeliveryState.DELIVERED if self.delivered else DeliveryState.GIVEN_UP).value


@dataclass(frozen=True, slots=True)
class Outcome(Growable):
    """The outcome document: how a job ended. Committed once per generation, the first commit wins.

    Only `deliveries` changes later: by the callback's number in the request, as text.
    """

    job_id: str
    generation: str
    status: JobStatus
    finished_at: str  # ISO 8601, UTC
    token: str = ""  # the winning attempt's
    attempt: int = 0
    worker: str = ""
    format: str = "mp3"
    stems: dict[str, StemFile] = field(default_factory=dict)
    ran: Ran | None = None
    error_code: str | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()  # what is wrong with the song or the stems
    notes: tuple[str, ...] = ()  # what was done to the song and is as it should be
    peaks: StemFile | None = None  # of all stems, to draw them; None in documents of older workers
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def files(self) -> tuple[StemFile, ...]:
        """All that the attempt left in the store."""
        return (*self.stems.values(), *([self.peaks] if self.peaks else []))

    @property
    def finished_at_seconds(self) -> float:
        """`finished_at` as seconds since the epoch, 0 if it is no time."""
        return _seconds(self.finished_at)

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
        deliveries = given.get("deliveries", {})
        read = {
            "status": JobStatus(given["status"]),
            "stems": {name: StemFile.from_fields(stem) for name, stem in given["stems"].items()},
            "ran": _ran(given["ran"]) if given["ran"] else None,
            "peaks": StemFile.from_fields(given["peaks"]) if given.get("peaks") else None,
            "deliveries": {index: Delivery.from_fields(delivery) for index, delivery in deliveries.items()},
            "schema": given.get("schema", 0),
        }
        outcome = cls.from_fields({**_with_tuples({"notes": (), **given}, "warnings", "notes"), **read})
        if (
            not all(map(_WORD.fullmatch, (outcome.format, outcome.token or "-")))
            or not all(map(names.is_stem, outcome.stems))
            or not all(file.is_sound and _is_own(file.key, outcome.job_id) for file in outcome.files)
        ):
            raise ValueError("it names files that cannot be its own")
        return outcome


class DamagedOutcome(Outcome):
    """Stands for an outcome document that cannot be read: the job is over, and what became of it is not known."""

    @classmethod
    def of(cls, job_id: str) -> Self:
        """Stand for the outcome of a job."""
        return cls(
            job_id,
            "",
            JobStatus.FAILED,
            "unknown",
            error_code="bad_document",
            error="the document that says how this job ended is damaged; submit the job again",
        )


def _ran(given: dict[str, Any]) -> Ran:
    parts = RanParts.from_fields(given["parts"]) if given.get("parts") else None
    if parts and (not _WORD.fullmatch(parts.kind) or parts.count < 0):
        raise ValueError("it names parts that cannot be its own")
    return Ran.from_fields({**given, "parts": parts})


def _is_own(key: str, job_id: str) -> bool:
    """Tell whether an object's key is one that an attempt at the job may have used."""
    return key.startswith(names.attempt_prefix(job_id)) and all(map(_WORD.fullmatch, key.split("/")))


def _seconds(time: str) -> float:
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, TypeError):  # a time is for people: it stops no job
        return 0.0


def _newest(known: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
    """Return what was known and what is new of `added`, without the oldest where that is too much."""
    return tuple(dict.fromkeys((*known, *added)))[-MAX_LABELS:]


def _with_tuples(given: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**given, **{name: tuple(given[name]) for name in names}}
