"""How a job ended, and what attempts at it leave in the store: stems, parts, and who was told. Values only, no I/O.

`Outcome` is the document that ends a job, as `unmix.job.JobRequest` is the one that begins it. What it and the document
of a part name has to be their own: anybody may have written them.
"""

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from unmix import names
from unmix.document import SCHEMA, Growable, load, seconds_of, with_tuples
from unmix.job import JobStatus, SeparationOptions

#: A part of a name that leads nowhere else: of a token, a format, a file.
_WORD: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_HEX: Final = re.compile(r"[0-9a-f]*")


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
    bitrate_kbps: int | None = None  # of lossy formats; None for others, and in documents of older workers

    def gives(self, options: SeparationOptions) -> bool:
        """Tell whether the weights, precision and bit rate that `options` name are those that ran, if it is known."""
        return (
            options.weights_sha256 in (None, self.weights_sha256)
            and (options.precision, self.precision) != ("exact", "fast")  # `fast` may well have run as `exact`
            and (None in (options.bitrate_kbps, self.bitrate_kbps) or options.bitrate_kbps == self.bitrate_kbps)
        )


@dataclass(frozen=True, slots=True)
class Music(Growable):
    """Key and tempo of a song, as far as its stems tell: see `unmix.audio.music`. None is what they do not."""

    key: str | None  # `A minor`
    key_confidence: float  # 0..1
    tempo_bpm: float | None
    tempo_confidence: float  # 0..1


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
    music: Music | None = None  # None in documents of older workers
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def files(self) -> tuple[StemFile, ...]:
        """All that the attempt left in the store."""
        return (*self.stems.values(), *([self.peaks] if self.peaks else []))

    @property
    def finished_at_seconds(self) -> float:
        """`finished_at` as seconds since the epoch, 0 if it is no time."""
        return seconds_of(self.finished_at)

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
            "music": Music.from_fields(given["music"]) if given.get("music") else None,
            "deliveries": {index: Delivery.from_fields(delivery) for index, delivery in deliveries.items()},
            "schema": given.get("schema", 0),
        }
        outcome = cls.from_fields({**with_tuples({"notes": (), **given}, "warnings", "notes"), **read})
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
