"""What commands print: results on standard output, progress and complaints on standard error."""

import codecs
import io
import json
import sys
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from unmix.errors import UnmixError
from unmix.runtime.terminal import printable
from unmix.words import counted

#: Progress, warnings and errors; standard output has only what a script could use.
stderr = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a line on standard error, or several."""
    stderr.print("\n".join(map(printable, text.split("\n"))), markup=False, soft_wrap=True)


class HasMusic(Protocol):
    """Key and tempo of a song, from the engine or from the service; None is what is not known."""

    @property
    def key(self) -> str | None:
        """As `A minor`."""

    @property
    def tempo_bpm(self) -> float | None:
        """Beats a minute."""


class Run:
    """Tells how a run over songs goes: a line for each that is over, one live bar for all, and at the end what came.

    On a terminal standard output gets nothing; else the paths of the stems, or with `as_json` an object for each song.
    """

    def __init__(self, songs: int, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._total = songs
        self._counts = {"done": 0, "sent": 0, "skipped": 0, "failed": 0}
        self._under_way: dict[Path | str | None, float] = {}
        self._lock = threading.Lock()  # songs may go on in several threads
        columns = (
            BarColumn(bar_width=20, table_column=Column(no_wrap=True)),
            _Count(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            # What is left of the line, however long the names are.
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        )
        is_shown = stderr.is_terminal and not as_json
        self._progress = Progress(*columns, console=stderr, redirect_stdout=False, expand=True, disable=not is_shown)
        self._task = self._progress.add_task("", total=songs)

    @property
    def has_failed(self) -> bool:
        """Whether any song did not come to its end."""
        return self._counts["failed"] > 0

    def goes_on(self, song: Path | str, share: float, what: str) -> None:
        """Show that a song is under way, named by its file or its job, how much of it is done, and `what` it does."""
        with self._lock:
            self._under_way[song] = share
            self._draw(printable(what))

    def done(
        self,
        song: Path | str,
        files: Mapping[str, Path],
        *,
        job: str | None = None,
        warnings: Collection[str] = (),
        notes: Collection[str] = (),
        music: HasMusic | None = None,
    ) -> None:
        """Tell that the stems of a song are there, what is wrong with them, what was done to it, and its music."""
        folder = f", {counted(len(files), 'file')} in {next(iter(files.values())).parent}" if files else ""
        self._tell(song, "done", folder, job=job)
        key, tempo_bpm = (music.key, music.tempo_bpm) if music else (None, None)
        heard = [key] if key else []
        heard += [f"{tempo_bpm:.0f} beats a minute"] if tempo_bpm else []
        for kind, told in (("warning", warnings), ("note", notes), ("music", heard and [", ".join(heard)])):
            for text in told:
                say(f"{kind}: {song}: {text}")
        told_of = {"warnings": [*warnings], "notes": [*notes], "key": key, "tempo_bpm": tempo_bpm}
        self._hand_out(song, "done", files, **({"job": job} if job else {}), **told_of)

    def sent(self, song: Path, job_id: str) -> None:
        """Tell that a song was sent, and nobody waits for it."""
        self._tell(song, "sent", f", job {job_id}")
        if self._as_json:
            self._hand_out(song, "sent", {}, job=job_id)
        elif not sys.stdout.isatty():
            print(f"{song}: {job_id}", flush=True)

    def skipped(self, songs: Mapping[Path, Mapping[str, Path]]) -> None:
        """Tell which songs are there already, with their stems."""
        with self._lock:
            self._counts["skipped"] += len(songs)
            self._draw()
        if songs:
            say(f"{counted(len(songs), 'song')} done already, and skipped; --again makes the stems again")
        for song, files in songs.items():
            self._hand_out(song, "skipped", files)

    def failed(self, song: Path | str, error: UnmixError) -> None:
        """Tell why there are no stems of a song."""
        self._tell(song, "failed")
        complain(error, song)
        if self._as_json:
            self._hand_out(song, "failed", {}, error_code=error.code, error=error.message)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._progress.stop()
        if self._total > 1 and kind is None:
            came = [f"{count} {state}" for state, count in self._counts.items() if count]
            say(f"{counted(self._total, 'song')}: {', '.join(came)}")

    def _tell(self, song: Path | str, state: str, more: str = "", *, job: str | None = None) -> None:
        with self._lock:
            self._counts[state] += 1
            for name in (song, job):
                self._under_way.pop(name, None)
            self._draw()
        if state != "failed":  # which is an error, told as one
            say(f"{sum(self._counts.values())} of {self._total} {state}: {song}{more}")

    def _draw(self, description: str = "") -> None:
        over = sum(self._counts.values())
        self._progress.update(
            self._task, completed=over + sum(self._under_way.values()), description=description, over=over
        )

    def _hand_out(self, song: Path | str, state: str, files: Mapping[str, Path], **more: Any) -> None:
        """Give a song's files to whoever reads standard output."""
        if self._as_json:
            print_json(
                {"song": str(song), "state": state, "files": {stem: str(file) for stem, file in files.items()}, **more}
            )
        elif not sys.stdout.isatty():
            for file in files.values():
                print(str(file), flush=True)


class _Count(ProgressColumn):
    """How many songs are over, of how many."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields.get('over', 0)} of {task.total:.0f}")


def print_json(fields: Mapping[str, Any]) -> None:
    """Print an object in one line; what in a path is not text stands in it as `\\udc80` to `\\udcff`."""
    print(json.dumps(fields), flush=True)


def complain(error: UnmixError, about: Path | str = "") -> None:
    """Print an error in one line, with what it is about if that is one of several."""
    where = f"{about}: " if about else ""
    say(f"error: {where}{error.message} ({error.code})")


def take_any_text() -> None:
    """Let standard output take text of any locale: bytes of file names as they are, `?` for what there is not."""
    codecs.register_error("unmix", _bytes_or_question_marks)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="unmix")


def _bytes_or_question_marks(error: UnicodeError) -> tuple[str | bytes, int]:
    if isinstance(error, UnicodeDecodeError):  # of a stream that is read back, too
        return "\N{REPLACEMENT CHARACTER}", error.end
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    made = bytes(ord(each) - 0xDC00 if 0xDC80 <= ord(each) <= 0xDCFF else ord("?") for each in text)
    return made, error.end
