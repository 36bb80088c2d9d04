"""Where a folder keeps the objects of a bucket: those of one song together, so that no look-up walks over the rest.

A key that begins with a song hash lies in `<bucket>/<its first two digits>/<song hash>/`, under its whole key; every
other key lies in `<bucket>/` as it is. Folders of earlier versions, which kept all keys as they are, are moved over
when the store is prepared. Nothing here writes an object; `unmix.store.file` does.
"""

import heapq
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_SONG_HASH: Final = re.compile(r"[0-9a-f]{64}")
#: The folder of a song, below its bucket; no other key may lead there.
_SONG_FOLDER: Final = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}/")

#: A key, and what the system knows of its file.
Found = tuple[str, os.stat_result]


def path_of(key: str) -> str | None:
    """Return where the object `key` lies below its bucket; None for a key that would lie among a song's objects."""
    if match := _SONG_HASH.match(key):
        return f"{_song_folder(match[0])}/{key}"
    return None if _SONG_FOLDER.match(key) else key


def walk(bucket: Path, prefix: str) -> Iterator[Found]:
    """Yield the objects whose key begins with `prefix`, sorted by key.

    A prefix with a song hash or a folder in it goes straight there. What vanishes meanwhile is left out.
    """
    if match := _SONG_HASH.match(prefix):
        return _walk(bucket / _song_folder(match[0]), "", prefix)
    if "/" in prefix:
        folder = prefix[: prefix.rindex("/") + 1]
        return _walk(bucket / folder, folder, prefix)
    return heapq.merge(_walk_songs(bucket, prefix), _walk(bucket, "", prefix), key=lambda found: found[0])


def misplaced(bucket: Path) -> Iterator[str]:
    """Yield the keys that still lie where earlier versions put them."""
    for entry in sorted(_entries(bucket), key=lambda entry: entry.name):
        if not _SONG_HASH.match(entry.name):
            continue  # a folder of songs, or a key that lies where it did
        if entry.is_dir():
            yield from (key for key, _ in _walk(bucket / entry.name, f"{entry.name}/", ""))
        else:
            yield entry.name


def _song_folder(song_hash: str) -> str:
    return f"{song_hash[:2]}/{song_hash}"


def _walk_songs(bucket: Path, prefix: str) -> Iterator[Found]:
    """Yield the objects that lie in folders of songs; a prefix here is shorter than a song hash."""
    for shard in _folders(bucket):
        if len(shard) == 2 and (shard.startswith(prefix) or prefix.startswith(shard)):
            for song_hash in _folders(bucket / shard):
                if _SONG_FOLDER.fullmatch(f"{shard}/{song_hash}/"):
                    yield from _walk(bucket / shard / song_hash, "", prefix)


def _walk(folder: Path, base: str, prefix: str) -> Iterator[Found]:
    """Yield what lies in `folder`, whose keys begin with `base`, as far as they begin with `prefix`."""
    # A folder sorts by its name with the slash: 'a-b' comes before 'a/b'.
    for text, entry in sorted((entry.name + "/" * entry.is_dir(), entry) for entry in _entries(folder)):
        key = base + text
        if text.endswith("/"):
            is_wanted = key.startswith(prefix) or prefix.startswith(key)
            if is_wanted and not _SONG_FOLDER.fullmatch(key):
                yield from _walk(folder / entry.name, key, prefix)
        elif key.startswith(prefix):
            with suppress(FileNotFoundError):
                yield key, entry.stat()


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from entries
