"""What is written in a song beside its sound: artist, title and the like, read for a person's own files only."""

from pathlib import Path
from typing import Final

import av
import av.error

#: No file leads to another one.
_ALONE: Final = {"protocol_whitelist": "none"}


def tags_of(song: Path) -> dict[str, str]:
    """Return a song's tags, their names in lower case; none where the file cannot be read as media at all."""
    try:
        with song.open("rb") as file, av.open(file, options=_ALONE, metadata_errors="replace") as opened:
            streams = (stream.metadata for stream in opened.streams.audio[:1])  # Ogg has them there
            found = {name.lower(): value for tags in (*streams, opened.metadata) for name, value in tags.items()}
    except (OSError, ValueError, av.error.FFmpegError):  # whoever separates it says what is wrong
        return {}
    return found
