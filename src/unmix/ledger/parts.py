"""Parts of a song in the store: kept while it is separated, so that no work is lost and several workers can share it.

A part is there once its document is. The document is only created, never replaced, and names files that only its maker
used: of two who make the same part the first one counts, and nobody reads half of one. Parts are never a result: a
part that is missing or damaged is made again.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from unmix import names
from unmix.errors import ObjectChangedError, ObjectMissingError, PartDamagedError, StoreError
from unmix.ledger.documents import DAMAGE
from unmix.outcome import SongPart, StemFile
from unmix.store.protocol import ObjectStore


class Parts:
    """The parts of one submission of a job that are made in one way, and so can be joined.

    `kind` says which way: a word that is the same for equal weights, precision and backend. Every method raises
    `StoreError` when the store is away.
    """

    def __init__(self, store: ObjectStore, job_id: str, generation: str, kind: str) -> None:
        self._store = store
        self._folder = names.part_folder(job_id, generation, kind)

    def found(self) -> dict[int, SongPart]:
        """Return the parts that are there, by number. A document that cannot be read counts as none."""
        parts = {}
        for info in self._store.list(names.OUTPUT_BUCKET, self._folder):
            if info.name.key.endswith(".json"):
                with suppress(StoreError):  # of one; the others may be read all the same
                    part = self._read(info.name)
                    if part is not None:
                        parts[part.index] = part
        return parts

    def has(self, index: int) -> bool:
        """Tell whether part number `index` is there, whatever its document says."""
        return self._store.stat(names.part_object(self._folder, index)) is not None

    def part(self, index: int) -> SongPart | None:
        """Return part number `index`, None if it is not there."""
        return self._read(names.part_object(self._folder, index))

    def put(self, part: SongPart, files: Mapping[str, Path], *, token: str) -> SongPart:
        """Store the FLACs of a part, its stems by name, then its document; returns the part that counts."""
        stems = {}
        for stem, path in files.items():
            name = names.part_file_object(self._folder, part.index, token, stem)
            self._store.put_file(name, path)
            with path.open("rb") as file:
                stems[stem] = StemFile(name.key, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
        made = replace(part, stems=stems)
        try:
            self._store.put_if(names.part_object(self._folder, part.index), made.to_json(), etag=None)
        except ObjectChangedError:
            self._remove(made)
            return self.part(part.index) or made
        return made

    def fetch(self, part: SongPart, folder: Path) -> dict[str, Path]:
        """Write the FLACs of a part into `folder`, and return them by stem.

        Raises:
            PartDamagedError: one of them is missing or is not what the document says.
        """
        paths = {}
        for stem, file in part.stems.items():
            path = folder / f"{part.index:05}.{stem}.flac"
            try:
                self._store.get_file(names.ObjectName(names.OUTPUT_BUCKET, file.key), path)
            except ObjectMissingError as error:
                raise PartDamagedError(f"part {part.index} lacks its {stem}") from error
            if path.stat().st_size != file.size_bytes or names.hash_file(path) != file.sha256:
                raise PartDamagedError(f"the {stem} of part {part.index} is not what was stored")
            paths[stem] = path
        return paths

    def discard(self, part: SongPart) -> None:
        """Remove a damaged part, the document first, so that somebody can make it again."""
        self._store.remove(names.part_object(self._folder, part.index))
        self._remove(part)

    def _read(self, name: names.ObjectName) -> SongPart | None:
        try:
            part = SongPart.from_json(self._store.get(name)[0], self._folder)
            if name == names.part_object(self._folder, part.index):
                return part
        except ObjectMissingError:
            return None
        except DAMAGE:
            pass
        self._store.remove(name)  # else nobody could ever put this part
        return None

    def _remove(self, part: SongPart) -> None:
        for file in part.stems.values():
            self._store.remove(names.ObjectName(names.OUTPUT_BUCKET, file.key))
