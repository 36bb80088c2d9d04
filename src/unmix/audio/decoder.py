"""A process that decodes one song for another, shut in: it can do nothing but that.

The song is its standard input, a file. It answers with chunks of samples, in messages of `unmix.audio.pipes`, then
with what the song turned out to be, or with why it is none. `unmix.audio.confined_reader` is the other end.
"""

import os
import resource
import sys
from dataclasses import asdict
from typing import BinaryIO, NoReturn, cast

import numpy as np

from unmix.audio.pipes import Message, send, told
from unmix.audio.song_reader import SongReader
from unmix.confinement import Sandbox, confine, end_with_parent
from unmix.errors import OutOfMemoryError, UnmixError


def main() -> NoReturn:
    """Decode one song; arguments: shortest and longest song in s, and how to be shut in."""
    end_with_parent()
    min_seconds, max_seconds, sandbox = sys.argv[1:]
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    try:
        confine(cast(Sandbox, sandbox))
        last = _decode(sys.stdin.buffer, float(min_seconds), float(max_seconds))
    except UnmixError as error:
        last = told(error)
    except MemoryError as error:  # PyAV's is one, too
        last = told(OutOfMemoryError(f"too little memory to decode the song: {error}"))
    send(sys.stdout.buffer, last)
    os._exit(0)  # a decoder that read hostile bytes need not be taken down in order


def _decode(song: BinaryIO, min_seconds: float, max_seconds: float) -> Message:
    reader = SongReader(song, min_seconds=min_seconds, max_seconds=max_seconds)
    for chunk in reader:
        send(sys.stdout.buffer, {}, chunk.astype(np.float32, copy=False).tobytes())
    return {"info": asdict(reader.info)}


if __name__ == "__main__":
    main()
