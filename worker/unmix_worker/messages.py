"""What a worker and its separating child say to each other, one message per line of JSON.

The parent sends a `SeparationTask` for each song. The child answers with events: `Ready` once the default model is
loaded; per task `Loaded`, `Progress`…, then `Done` or `Failed`.

A song in parts begins with a `PartsTask`. After `PartsBegun` the child asks for each run (`RunWanted`), and tells of
each part (`PartMade`) and how far it has joined them (`PartsJoined`). The parent answers with `MakeRun`, hands over
parts that others made (`UsePart`), or says that no more is wanted (`NoMoreRuns`).

At any time the parent may say `Abandon`. The child leaves its song, whatever it is at, and answers `Abandoned`: what it
says from then on is of the next task.

Where a package is replaced under a running worker, the next child that it starts is of another version. So a field or
an event that the reader does not know is ignored, and a task that lacks something is answered with `Failed`. That a
child does not ignore what changes the stems is seen to by the parent: `Ready` says which fields of a task it knows.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from unmix.audio.passes import OVERLAP
from unmix.job import SeparationOptions, SongLevel
from unmix.outcome import Music, Ran
from unmix.queue.records import ModelCard

#: The fields of a task that every child knows: earlier ones do not say which.
_KNOWN_AT_FIRST: Final = (
    *("song", "out", "model", "weights_sha256", "stems", "format", "bitrate_kbps", "mixture_consistency"),
    *("bits", "start", "end", "level"),
)


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
    bits: int = 16
    start: float = 0.0
    end: float | None = None
    level: SongLevel | None = None  # of the song, if it is known
    precision: str | None = None  # None: the worker's
    overlap: float = OVERLAP
    shifts: int = 0
    song_rate: bool = False

    def unknown_to(self, knows: Collection[str]) -> list[str]:
        """Return the fields that say something and are not among those that a child knows."""
        return [
            each.name for each in fields(self) if each.name not in knows and getattr(self, each.name) != each.default
        ]

    @classmethod
    def of(
        cls,
        options: SeparationOptions,
        song_path: Path,
        out: Path,
        usual_kbps: int,
        *,
        level: SongLevel | None = None,
    ) -> Self:
        """Make the task that gives `options` for the song at `song_path`, with `usual_kbps` where they name none."""
        return cls(
            str(song_path.absolute()),
            str(out.absolute()),
            options.model,
            options.weights_sha256,
            options.stems,
            options.format,
            options.bitrate_kbps or usual_kbps,
            options.mixture_consistency,
            options.bits,
            options.start,
            options.end,
            level,
            options.precision,
            options.overlap,
            options.shifts,
            options.song_rate,
        )


@dataclass(frozen=True, slots=True)
class PartsTask:
    """One song for the child in parts: all of it and its stems (`join`), or whatever runs it is asked for.

    To be joined, a song of less than `least_seconds`, or for a model that hears it as a whole, is separated as a whole.
    """

    separation: SeparationTask
    join: bool
    least_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class MakeRun:
    """Make the parts `[first, stop)`."""

    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class UsePart:
    """A part that somebody else made, as FLACs by stem, which the child removes."""

    index: int
    files: dict[str, str]
    clipped: dict[str, int]


@dataclass(frozen=True, slots=True)
class NoMoreRuns:
    """Nobody wants more of this song."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Nobody wants anything of this song; its files go as soon as the child has answered."""


@dataclass(frozen=True, slots=True)
class PartsBegun:
    """The song has so many parts; only those of this kind can be joined with them."""

    count: int
    parts_kind: str
    level: SongLevel
    length: int  # of every part but the last, in samples
    stems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartsJoined:
    """So many parts, from the first one on, are in the stems."""

    count: int


@dataclass(frozen=True, slots=True)
class RunWanted:
    """The child has nothing to do; the run that begins with this part would cost it least."""

    wished: int


@dataclass(frozen=True, slots=True)
class PartMade:
    """A part is there, as FLACs by stem, which the parent removes."""

    index: int
    start: int  # first sample
    samples: int
    files: dict[str, str]
    clipped: dict[str, int]
    peaks: dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Ready:
    """The default model is loaded; `backend` and `precision` are what really runs.

    `needed_mb` is how many MiB the child needs to separate with it; 0: not known. `parts_kind` is that of `PartsBegun`.
    `knows` are the fields of a task that the child does not ignore.
    """

    card: ModelCard
    backend: str
    precision: str
    needed_mb: int = 0
    parts_kind: str = ""
    knows: tuple[str, ...] = _KNOWN_AT_FIRST


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model of the task is loaded, and the separation begins."""


@dataclass(frozen=True, slots=True)
class Progress:
    """So many segments of the song are done."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Done:
    """The song is separated; `stems` are paths by name."""

    stems: dict[str, str]
    ran: Ran
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()  # which a child of an earlier version does not tell
    peaks: dict[str, Any] = field(default_factory=dict)  # the document `unmix.audio.peaks.of_song`, or nothing
    music: Music | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The model cannot be loaded, or the song cannot be separated; the fields are an `UnmixError`'s."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The child is at no song, and its model is loaded."""


#: The fields of a task that this version knows, for `Ready`.
KNOWN: Final = tuple(each.name for each in fields(SeparationTask))

Order: TypeAlias = SeparationTask | PartsTask | MakeRun | UsePart | NoMoreRuns | Abandon
Event: TypeAlias = (
    Ready | Loaded | Progress | PartsBegun | PartsJoined | RunWanted | PartMade | Done | Failed | Abandoned
)

_ORDERS: Final = (SeparationTask, PartsTask, MakeRun, UsePart, NoMoreRuns, Abandon)
_EVENTS: Final = (Ready, Loaded, Progress, PartsBegun, PartsJoined, RunWanted, PartMade, Done, Failed, Abandoned)
_KINDS: Final = {kind.__name__: kind for kind in (*_ORDERS, *_EVENTS)}
#: Fields that are values of classes themselves.
_NESTED: Final = {"card": ModelCard, "ran": Ran, "music": Music, "level": SongLevel, "separation": SeparationTask}


def encode(message: Order | Event) -> str:
    """Return the line that says `message`."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}) + "\n"


def decode_order(line: str) -> Order:
    """Read what the parent says.

    Raises:
        ValueError: that is no order.
    """
    message = _decode(line)
    if not isinstance(message, _ORDERS):
        raise ValueError(f"no order: {line[:200]!r}")
    return message


def decode_event(line: str) -> Event | None:
    """Read what the child says; None: an event that only another version knows.

    Raises:
        ValueError: that is no event.
    """
    message = _decode(line)
    if isinstance(message, _ORDERS):
        raise ValueError(f"no event: {line[:200]!r}")
    return message


def _decode(line: str) -> Order | Event | None:
    try:
        values = json.loads(line)
        kind = _KINDS.get(values["kind"])
        message: Order | Event | None = None if kind is None else _made(kind, values)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no message: {line[:200]!r}") from error
    return message


def _made(kind: Any, values: dict[str, Any]) -> Any:
    known = [each.name for each in fields(kind) if each.name in values]
    return kind(**{name: _value(name, values[name]) for name in known})


def _value(name: str, value: Any) -> Any:
    if name in _NESTED and value is not None:
        return _made(_NESTED[name], value)
    return tuple(value) if isinstance(value, list) else value
