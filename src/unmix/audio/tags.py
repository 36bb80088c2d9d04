"""What is written in a song beside its sound: title, artist and the like, and its cover.

Owns what of that is read, and what is made of it for stems; `unmix.audio.tagging` writes it. All of it comes from
strangers: it is bounded and cleaned here, and whatever is wrong with it, there are only fewer tags.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import av.error
from av.stream import Disposition

from unmix.audio.opening import container_of, open_part, parts_of
from unmix.audio.pictures import picture_of
from unmix.audio.window import Window
from unmix.errors import AudioError

#: The tags that are read, by FFmpeg's names.
TAGS: Final = ("title", "artist", "album", "album_artist", "date", "genre", "track")
#: Those that are no words: of them so much is kept as begins in this form.
_FORMS: Final = {
    "date": re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII),
    "track": re.compile(r"\d{1,4}(/\d{1,4})?", re.ASCII),
}
_MOST_CHARACTERS: Final = 300
#: Control characters, and halves of a character.
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")

#: A cover goes into every stem of a song.
MOST_COVER_BYTES: Final = 2 << 20
_MOST_PICTURES: Final = 16


@dataclass(frozen=True, slots=True)
class Tags:
    """Tags by their names, and a cover, empty if there is none."""

    texts: Mapping[str, str] = field(default_factory=dict)
    cover: bytes = b""

    @classmethod
    def of(cls, found: Mapping[str, Any], cover: bytes) -> Self:
        """Make tags of what was found in a song, whatever it is."""
        texts = {name: text for name in TAGS if (text := _cleaned(name, str(found.get(name, ""))))}
        return cls(texts, cover if _is_cover(cover) else b"")

    def of_stem(self, stem: str) -> Self:
        """Return the same for a stem of the song, whose title says which one it is."""
        if "title" not in self.texts:
            return self
        return replace(self, texts={**self.texts, "title": f"{self.texts['title']} ({stem.replace('_', ' ')})"})


NO_TAGS: Final = Tags()

#: Reads the tags of the song at a path.
ReadTags = Callable[[Path], Tags]


def tags_of(song: Path | BinaryIO) -> Tags:
    """Return a song's tags; none where the file cannot be read, as whoever separates it says what is wrong."""
    try:
        with song.open("rb") if isinstance(song, Path) else nullcontext(song) as file:
            container = container_of(file)
            # Not without what stands behind the frames, as for decoders: there may be tags.
            part = parts_of(file, container)[0] if container == "ogg" else Window(file, 0, file.seek(0, 2))
            with closing(open_part(part, container)) as opened:
                # Ogg has them with its streams; elsewhere a stream may have a title of its own, as "Stereo".
                told = opened.stream if container == "ogg" else opened.container
                found = {name.lower(): text for name, text in told.metadata.items()}
                return Tags.of(found, _cover(opened.container))
    except (AudioError, OSError, ValueError, MemoryError, av.error.FFmpegError):
        return NO_TAGS


def _cover(container: Any) -> bytes:
    """Return the picture of the front, or the first that there is."""
    pictures = [stream for stream in container.streams.video if stream.disposition & Disposition.attached_pic]
    found = []
    # FFmpeg gives these first, one packet each.
    for _, packet in zip(pictures[:_MOST_PICTURES], container.demux(pictures), strict=False):
        if packet.size <= MOST_COVER_BYTES and _is_cover(cover := bytes(packet)):
            found.append((packet.stream.metadata.get("comment") != "Cover (front)", cover))
    return min(found, key=lambda each: each[0])[1] if found else b""


def _cleaned(name: str, text: str) -> str:
    plain = " ".join(_UNFIT.sub(" ", text[: 4 * _MOST_CHARACTERS]).split())[:_MOST_CHARACTERS].rstrip()
    if name not in _FORMS:
        return plain
    kept = _FORMS[name].match(plain)
    return kept[0] if kept else ""


def _is_cover(picture: bytes) -> bool:
    return len(picture) <= MOST_COVER_BYTES and picture_of(picture) is not None
