"""What `separate` and `submit` share: which songs are meant, where their stems go, what of it is there already."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from unmix.audio.formats import STEM_MP4
from unmix.cli.deliveries import Deliveries
from unmix.cli.naming import Template, places_of
from unmix.cli.output import say
from unmix.cli.songs import find_songs

#: The exit code of a command that was stopped: by Ctrl-C, SIGTERM or SIGHUP.
STOPPED: Final = 130


@dataclass(frozen=True, slots=True)
class Task:
    """A song whose stems are wanted, and where: see `unmix.cli.naming`."""

    song: Path
    place: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The songs of one call."""

    deliveries: Deliveries
    made: Mapping[str, Any]  # how stems are made; those that were made otherwise do not count
    tasks: tuple[Task, ...]  # that are to be done
    skipped: Mapping[Path, Mapping[str, Path]]  # what is there already: the stems of each song

    @property
    def size(self) -> int:
        """How many songs there are."""
        return len(self.tasks) + len(self.skipped)

    def deliver(self, task: Task, stems: Mapping[str, Path]) -> dict[str, Path]:
        """Give the stems of a song their names, and return where they are; OSError if they cannot be written there."""
        return self.deliveries.deliver(task.song, task.place, self.made, stems)


def batch_of(
    named: Sequence[Path],
    output: Path,
    template: str,
    made: Mapping[str, Any],
    *,
    again: bool,
) -> Batch:
    """Find out what there is to do; with `again` all of it.

    Raises:
        InputError: there are no songs (`no_songs`), or the template is none (`bad_template`).
        OSError: a song or the folder of the stems cannot be read.
    """
    places = Template(template, in_one_file=made["format"] == STEM_MP4)
    deliveries = Deliveries(output)
    songs = find_songs(named, output=output, delivered=deliveries.files())
    tasks, skipped = [], {}
    for song, place in zip(songs, places_of(songs, places), strict=True):
        there = None if again else deliveries.of(song.path, place, made)
        if there is None:
            tasks.append(Task(song.path, place))
        else:
            skipped[song.path] = there
    return Batch(deliveries, made, tuple(tasks), skipped)


@contextmanager
def stoppable(advice: str = "") -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop the command as Ctrl-C does, in good order, with `advice` on how to go on."""
    from unmix.local.local import interruptible

    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        say(f"stopped{': ' * bool(advice)}{advice}")
        raise typer.Exit(STOPPED) from None
