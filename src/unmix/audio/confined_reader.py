"""Songs as samples, decoded by a process that is shut in: whatever a song does to the decoder, it is done there.

`unmix.audio.decoder` is that process; each pass over a song has one of its own, which ends with it. So have a song's
tags: `unmix.audio.tag_process`.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from unmix.audio.pipes import info_of, raise_told, receive
from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.audio.song_reader import AudioInfo, OpenSong, SongReader
from unmix.audio.tags import MOST_COVER_BYTES, NO_TAGS, ReadTags, Tags, tags_of
from unmix.confinement import Sandbox
from unmix.errors import AudioError, EngineError

#: A decoder that was taken over may say anything, but not endlessly. What it is asked for is 0.5 MB at a time.
_MOST_BYTES: Final = 16 << 20
#: So may what reads tags; what it says beside a cover is a line.
_MOST_TAGS_BYTES: Final = MOST_COVER_BYTES + (64 << 10)


class ConfinedReader:
    """See `SongReader`; what that raises on construction is raised here when the song is read.

    Raises:
        EngineError: as it is read, the decoder died (`decoder_died`), or cannot be shut in (`sandbox_unavailable`).
    """

    def __init__(
        self, song: Path, *, min_seconds: float = 0.0, max_seconds: float = math.inf, sandbox: Sandbox = "auto"
    ) -> None:
        self._song = song
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._sandbox = sandbox
        self._info: AudioInfo | None = None

    @property
    def info(self) -> AudioInfo:
        """See `SongReader`."""
        if self._info is None:
            raise RuntimeError("a song is known only after it was read to its end")
        return self._info

    def __iter__(self) -> Iterator[Samples]:
        with self._decoder() as process:
            try:
                yield from self._chunks(process)
            except (EOFError, ValueError, TypeError, LookupError) as error:
                raise EngineError("the decoder died over the song", code="decoder_died", retryable=True) from error
            finally:
                process.kill()

    def _chunks(self, process: "subprocess.Popen[bytes]") -> Iterator[Samples]:
        assert process.stdout is not None
        samples = 0
        while True:
            message, data = receive(process.stdout, most_bytes=_MOST_BYTES)
            raise_told(message)
            if "info" in message:
                self._info = info_of(message)
                return
            # A copy, as torch warns of arrays that cannot be written.
            chunk = np.frombuffer(data, np.float32).reshape(2, -1).copy()
            samples += chunk.shape[1]
            if samples > self._max_seconds * SAMPLE_RATE:
                raise ValueError("more samples than were asked for")
            yield chunk

    def _decoder(self) -> "subprocess.Popen[bytes]":
        return _started("unmix.audio.decoder", self._song, self._min_seconds, self._max_seconds, self._sandbox)


def confined_tags(song: Path, *, sandbox: Sandbox = "auto") -> Tags:
    """See `tags_of`; a song that is too much for its reader, or has taken it over, has none.

    Raises:
        AudioError: there is no such song, or no process for it (`unreadable`).
    """
    with _started("unmix.audio.tag_process", song, sandbox) as process:
        assert process.stdout is not None
        texts, _, cover = process.stdout.read(_MOST_TAGS_BYTES).partition(b"\n")
        process.kill()
    try:
        return Tags.of(json.loads(texts), cover)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return NO_TAGS


def _started(module: str, song: Path, *arguments: float | str) -> "subprocess.Popen[bytes]":
    """Start a process with a song as its standard input."""
    command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
    # Threads that are there already are not shut in by all that shuts in the one that asks for it.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    try:
        with song.open("rb") as file:
            return subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, env=environment)
    except OSError as error:
        raise AudioError(f"cannot read {song.name}: {error.strerror}", code="unreadable") from error


def reader_of(sandbox: Sandbox) -> OpenSong:
    """Return how songs are read: with a process between them and this one, unless none is to be shut in."""
    return SongReader if sandbox == "off" else partial(ConfinedReader, sandbox=sandbox)


def tag_reader_of(sandbox: Sandbox) -> ReadTags:
    """Return how tags are read, in the same way."""
    return tags_of if sandbox == "off" else partial(confined_tags, sandbox=sandbox)
