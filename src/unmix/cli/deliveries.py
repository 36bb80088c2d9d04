"""What was delivered into an output folder, so that it need not be made again, and how it gets there.

Stems are made in a hidden folder within the output folder, which goes on every way out, and get their names when all of
a song are there. What was delivered is noted in the output folder itself, a line of JSON for each song, so that a run
that was interrupted, or comes again with more songs, does only what is missing.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from unmix.cli.naming import path_of

#: Where an output folder says what is in it.
NOTES: Final = ".unmix.jsonl"


class Deliveries:
    """The notes of one output folder."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._notes: dict[str, dict[str, Any]] = {}
        try:
            lines = (output / NOTES).read_bytes().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            lines = []
        for line in lines:
            try:
                note = json.loads(line)
                self._notes[note["place"]] = {"song": note["song"], "made": note["made"], "files": dict(note["files"])}
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut off; its song is made again

    def files(self) -> set[Path]:
        """Return every file that was delivered."""
        output = self.output.resolve()
        return {output / file for note in self._notes.values() for file in note["files"].values()}

    def of(self, song: Path, place: str, made: Mapping[str, Any]) -> dict[str, Path] | None:
        """Return the stems at `place` if they are still there and were made of these bytes in this way.

        Raises:
            OSError: the song cannot be read.
        """
        note = self._notes.get(place)
        if note is None or note["made"] != dict(made):
            return None
        files = {stem: self.output / file for stem, file in note["files"].items()}
        is_there = all(file.is_file() for file in files.values()) and note["song"] == sha256_of(song)
        return files if files and is_there else None

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield a folder to make the stems of one song in; whatever is still there at the end goes with it."""
        self.output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".unmix-", dir=self.output) as folder:
            yield Path(folder)

    def deliver(self, song: Path, place: str, made: Mapping[str, Any], stems: Mapping[str, Path]) -> dict[str, Path]:
        """Give the stems of a song their names, note them, and return where they are.

        Raises:
            OSError: they cannot be written there.
        """
        files = {stem: path_of(place, stem, path.name.partition(".")[2]) for stem, path in stems.items()}
        for stem, path in stems.items():
            target = self.output / files[stem]
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        named = {stem: str(file) for stem, file in files.items()}
        self._notes[place] = note = {"song": sha256_of(song), "made": dict(made), "files": named}
        with (self.output / NOTES).open("a", encoding="ascii") as notes:  # in one piece: others may deliver here too
            notes.write(json.dumps({"place": place, **note}) + "\n")
        return {stem: self.output / file for stem, file in files.items()}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex digits; OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
