"""What commands print: results on standard output, progress and complaints on standard error."""

from pathlib import Path
from typing import Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from unmix.errors import UnmixError

#: Progress, warnings and errors; standard output has only what a script could use.
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def progress_bars() -> Progress:
    """Return bars for songs, drawn on standard error while entered."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=stderr, redirect_stdout=False)


class HasMusic(Protocol):
    """Key and tempo of a song, from the engine or from the service; None is what is not known."""

    @property
    def key(self) -> str | None:
        """As `A minor`."""

    @property
    def tempo_bpm(self) -> float | None:
        """Beats a minute."""


def tell(song: Path, *, warnings: tuple[str, ...], notes: tuple[str, ...], music: HasMusic | None) -> None:
    """Print what is wrong with a song that was separated or with its stems, what was done to it, and its music."""
    heard = []
    if music and music.key:
        heard.append(music.key)
    if music and music.tempo_bpm:
        heard.append(f"{music.tempo_bpm:.0f} beats a minute")
    for kind, told in (("warning", warnings), ("note", notes), ("music", heard and [", ".join(heard)])):
        for text in told:
            stderr.print(f"{kind}: {song}: {text}", markup=False)


def complain(error: UnmixError, about: Path | str = "") -> None:
    """Print an error in one line, with what it is about if that is one of several."""
    where = f"{about}: " if about else ""
    stderr.print(f"error: {where}{error.message} ({error.code})", markup=False)


def finish(files: list[Path], *, failed: bool) -> None:
    """Name the delivered files, and end the command."""
    for file in files:
        typer.echo(str(file))
    if failed:
        raise typer.Exit(1)


def printable(line: str) -> str:
    """Return a line of any origin without what could steer a terminal or cannot be encoded."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
