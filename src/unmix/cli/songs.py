"""Which songs are meant: files that are named, and of folders all that look like songs, with where they lie there."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from unmix.errors import InputError
from unmix.names import SONG_EXTENSIONS

#: A file that is named itself may be called anything.
_SUFFIXES: Final = frozenset(f".{extension}" for extension in SONG_EXTENSIONS)


@dataclass(frozen=True, slots=True)
class Song:
    """A song on this machine."""

    path: Path
    folder: Path = Path()  # where it lies below the folder that was named

    @property
    def name(self) -> str:
        """What it is called, without the ending that tells its format."""
        # Of `...mp3` nothing would be left but dots, which as a folder are the one above.
        return self.path.stem if self.path.stem.strip(". ") else self.path.name


def find_songs(named: Sequence[Path], *, output: Path, delivered: Collection[Path]) -> list[Song]:
    """Return the songs in the files and folders that are named, each once, in the order of their names.

    What lies below `output`, or is among the files that were `delivered` there, is no song in a folder.

    Raises:
        InputError: there is no song in a folder (`no_songs`).
    """
    songs: dict[Path, Song] = {}
    for path in named:
        if not path.is_dir():
            songs.setdefault(_real(path), Song(path))
            continue
        found = [song for song in _songs_below(path, _real(output)) if _real(song.path) not in delivered]
        if not found:
            raise InputError(f"there is no song in {path}: files are known by endings such as .mp3", code="no_songs")
        for song in found:
            songs.setdefault(_real(song.path), song)
    return list(songs.values())


def _songs_below(folder: Path, output: Path) -> Iterator[Song]:
    for where, folders, files in os.walk(folder):
        here = Path(where)
        if here != folder and _real(here) == output:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in _SUFFIXES:
                yield Song(here / name, here.relative_to(folder))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
