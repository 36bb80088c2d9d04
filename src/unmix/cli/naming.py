"""Where the stems of songs go: by a template such as `{artist}/{title}/{stem}`, and never two songs to one place."""

import os
import re
import string
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from unmix.cli.songs import Song
from unmix.errors import InputError

#: Every song has a folder of its own, which lies as the song does in the folder that was named.
USUAL_TEMPLATE: Final = "{folder}/{name}/{stem}"
#: The same where all stems of a song are one file: it is called as the song is.
USUAL_OF_ONE_FILE: Final = "{folder}/{name}"
#: What a template may have in it: of the song's file, and of what is written in it.
_OF_FILES: Final = ("folder", "name", "stem")
_OF_TAGS: Final = ("artist", "album", "title", "track")

#: What no file can have in its name on some system, and characters that steer a terminal or turn the writing around.
_UNFIT: Final = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]')
#: Bytes of one name that comes from tags; most systems allow 255.
_MOST_BYTES: Final = 200


class Template:
    """A template for the paths of stems, below the output folder and without extension; the usual one if it is empty.

    Raises:
        InputError: it has no `{stem}`, so that stems would overwrite each other where they are not `in_one_file`, or
            fields that there are not, or leads out of the output folder (`bad_template`).
    """

    def __init__(self, text: str = "", *, in_one_file: bool = False) -> None:
        text = text or (USUAL_OF_ONE_FILE if in_one_file else USUAL_TEMPLATE)
        try:
            found = [each for each in string.Formatter().parse(text) if each[1] is not None]
        except ValueError as error:
            raise InputError(f"the template {text!r} is broken: {error}", code="bad_template") from error
        known = (*_OF_FILES, *_OF_TAGS)
        fields = {name for _, name, _, _ in found}
        is_plain = not any(spec or conversion for _, _, spec, conversion in found)
        if not fields <= set(known) or not (in_one_file or "stem" in fields) or not is_plain:
            listed = ", ".join(f"{{{name}}}" for name in known)
            text = f"a template has {{stem}} in it, and of the rest what you like: {listed}"
            raise InputError(text, code="bad_template")
        self._parts = [part for part in text.split("/") if part not in ("", ".")]
        if ".." in self._parts:
            raise InputError("a template must not lead out of the output folder by '..'", code="bad_template")
        self._wants_tags = bool(fields & set(_OF_TAGS))

    def values_of(self, song: Song) -> dict[str, str]:
        """Return what its fields are of a song; of tags that it does not have, words that say so."""
        values = {"name": song.name}
        if self._wants_tags:
            from unmix.audio.tags import tags_of

            tags = tags_of(song.path).texts
            values["artist"] = _fit(tags.get("artist") or tags.get("album_artist", "")) or "Unknown artist"
            values["album"] = _fit(tags.get("album", "")) or "Unknown album"
            values["title"] = _fit(tags.get("title", "")) or song.name
            values["track"] = _track(tags.get("track", ""))
        return values

    def place(self, values: Mapping[str, str], folder: Path) -> str:
        """Return the path of a song's stems, in which `{stem}` still stands for each of them."""
        parts: list[str] = []
        for part in self._parts:
            if part == "{folder}":
                parts += folder.parts
                continue
            # Whatever it is made of, it is a name, and leads neither up nor elsewhere.
            made = part.format(**values, folder="_".join(folder.parts), stem="{stem}").replace("/", "_")
            parts.append(made if made.strip(". ") else "_")
        return "/".join(parts)


def places_of(songs: Sequence[Song], template: Template) -> list[str]:
    """Return for each song where its stems go, as `Template.place` does: no two go to one place.

    Songs of one name, such as `x.m4a` beside `x.flac`, keep their endings; those of several folders, their folders.
    What is left is numbered.
    """
    values = [template.values_of(song) for song in songs]
    places = [template.place(each, song.folder) for each, song in zip(values, songs, strict=True)]
    for of_one_place in _shared(places):
        for index in of_one_place:
            places[index] = template.place({**values[index], "name": songs[index].path.name}, songs[index].folder)
    for of_one_place in _shared(places):
        folders = [Path(os.path.abspath(songs[index].path)).parent for index in of_one_place]
        common = os.path.commonpath(folders)
        for index, folder in zip(of_one_place, folders, strict=True):
            places[index] = template.place(values[index], folder.relative_to(common))
    taken = {_key(place) for place in places}
    for of_one_place in _shared(places):
        for index in of_one_place[1:]:
            number = 2
            while _key(numbered := _numbered(places[index], number)) in taken:
                number += 1
            taken.add(_key(numbered))
            places[index] = numbered
    return places


def path_of(place: str, stem: str, extension: str) -> Path:
    """Return the path of one stem, below the output folder."""
    return Path(f"{place.replace('{stem}', stem)}.{extension}")


def _shared(places: Sequence[str]) -> list[list[int]]:
    """Return which songs would share a place, also on a disk that does not tell upper from lower case."""
    songs: dict[str, list[int]] = defaultdict(list)
    for index, place in enumerate(places):
        songs[_key(place)].append(index)
    return [indexes for indexes in songs.values() if len(indexes) > 1]


def _key(place: str) -> str:
    return place.casefold()


def _numbered(place: str, number: int) -> str:
    """Number the folder of the stems, or their names where it is not theirs alone."""
    folder, _, name = place.rpartition("/")
    return f"{folder} ({number})/{name}" if folder and name == "{stem}" else f"{place} ({number})"


def _fit(text: str) -> str:
    """Return words as a name that a file can have here."""
    encoding = sys.getfilesystemencoding()
    return _UNFIT.sub("_", text).encode(encoding, "replace")[:_MOST_BYTES].decode(encoding, "ignore").strip(" .")


def _track(text: str) -> str:
    """Return a number such as `3/12` so that names sort by it."""
    number = text.partition("/")[0].strip()
    return number.zfill(2) if number.isascii() and number.isdigit() else "00"
