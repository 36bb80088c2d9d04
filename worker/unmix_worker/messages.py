"""What a worker and its separating child say to each other, one message per line of JSON.

The parent sends a `SeparationTask` for each song. The child answers with events: `Ready` once the default model is
loaded; per task `Loaded`, `Progress`…, then `Done` or `Failed`.

Where a package is replaced under a running worker, the next child that it starts is of another version. So a field or
an event that the reader does not know is ignored, and a task that lacks something is answered with `Failed`.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from unmix.job import ModelCard, Ran, SeparationOptions, SongLevel


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

    @classmethod
    def of(
        cls,
        options: SeparationOptions,
        song_path: Path,
        out: Path,
        bitrate_kbps: int,
        *,
        level: SongLevel | None = None,
    ) -> Self:
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
            options.bits,
            options.start,
            options.end,
            level,
        )


@dataclass(frozen=True, slots=True)
class Ready:
    """The default model is loaded; `backend` and `precision` are what really runs.

    `needed_mb` is how many MiB the child needs to separate with it; 0: not known.
    """

    card: ModelCard
    backend: str
    precision: str
    needed_mb: int = 0


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


@dataclass(frozen=True, slots=True)
class Failed:
    """The model cannot be loaded, or the song cannot be separated; the fields are an `UnmixError`'s."""

    code: str
    message: str
    retryable: bool


Event: TypeAlias = Ready | Loaded | Progress | Done | Failed

_KINDS: Final = {kind.__name__: kind for kind in (SeparationTask, Ready, Loaded, Progress, Done, Failed)}
#: Fields that are values of classes themselves.
_PARTS: Final = {"card": ModelCard, "ran": Ran, "level": SongLevel}


def encode(message: SeparationTask | Event) -> str:
    """Return the line that says `message`."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}) + "\n"


def decode_task(line: str) -> SeparationTask:
    """Read what the parent says.

    Raises:
        ValueError: that is no task.
    """
    message = _decode(line)
    if not isinstance(message, SeparationTask):
        raise ValueError(f"no task: {line[:200]!r}")
    return message


def decode_event(line: str) -> Event | None:
    """Read what the child says; None: an event that only another version knows.

    Raises:
        ValueError: that is no event.
    """
    message = _decode(line)
    if isinstance(message, SeparationTask):
        raise ValueError(f"no event: {line[:200]!r}")
    return message


def _decode(line: str) -> SeparationTask | Event | None:
    try:
        values = json.loads(line)
        kind = _KINDS.get(values["kind"])
        message: SeparationTask | Event | None = None if kind is None else _made(kind, values)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no message: {line[:200]!r}") from error
    return message


def _made(kind: Any, values: dict[str, Any]) -> Any:
    known = [field.name for field in fields(kind) if field.name in values]
    return kind(**{name: _value(name, values[name]) for name in known})


def _value(name: str, value: Any) -> Any:
    if name in _PARTS and value is not None:
        return _made(_PARTS[name], value)
    return tuple(value) if isinstance(value, list) else value
