"""Decoding and encoding in processes beside this one, for several songs at once.

In threads they would share one lock of Python with each other and with whoever feeds the GPU. Here they share the cores
instead. A song or stem stays with the process that it was given to; a process does one thing at a time, and whoever
asks it waits, so nothing piles up. `codec_process` is the other end.
"""

import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unmix.audio.ear import Heard
from unmix.audio.pipes import Message, info_of, raise_told, receive, send
from unmix.audio.samples import Samples
from unmix.audio.song_reader import AudioInfo
from unmix.audio.tags import NO_TAGS, Tags
from unmix.errors import EngineError, UnmixError


class CodecPool:
    """So many processes, started when they are first needed; they end with the pool."""

    def __init__(self, processes: int) -> None:
        self._processes = [_Process() for _ in range(processes)]
        weakref.finalize(self, _end, self._processes)

    def reader(self, song: Path, **options: Any) -> "PooledReader":
        """Return a `SongReader` in one of the processes."""
        return PooledReader(self, song, options)

    def writer(self, path: Path, *, tags: Tags = NO_TAGS, **options: Any) -> "PooledWriter":
        """Return a `StemWriter` in one of the processes.

        Raises:
            EngineError: as `StemWriter`.
        """
        return PooledWriter(self, path, tags, options)

    def open(self, do: str, path: Path, options: dict[str, Any], data: bytes = b"") -> "_Opened":
        """Open a song or a stem in the process that has the fewest."""
        return _Opened(min(self._processes, key=lambda each: len(each.opened)), do, path, options, data)


class PooledReader:
    """See `SongReader`."""

    def __init__(self, pool: CodecPool, song: Path, options: dict[str, Any]) -> None:
        self._pool = pool
        self._song = song
        self._options = options
        self._info: AudioInfo | None = None

    @property
    def info(self) -> AudioInfo:
        """See `SongReader`."""
        if self._info is None:
            raise RuntimeError("a song is known only after it was decoded to its end")
        return self._info

    def __iter__(self) -> Iterator[Samples]:
        with self._pool.open("read", self._song, self._options) as song:
            while True:
                answer, samples = song.ask("chunk")
                if "info" in answer:
                    self._info = info_of(answer)
                    return
                # A copy, as torch warns of arrays that cannot be written.
                yield np.frombuffer(samples, np.float32).reshape(2, -1).copy()


class PooledWriter:
    """See `StemWriter`."""

    def __init__(self, pool: CodecPool, path: Path, tags: Tags, options: dict[str, Any]) -> None:
        self.path = path
        self.samples = 0
        self.clipped = 0
        self.peaks: list[int] = []
        self._heard = Heard.nothing()
        self._stem = pool.open("write", path, {**options, "texts": dict(tags.texts)}, tags.cover)

    def write(self, samples: Samples) -> None:
        """See `StemWriter`."""
        self._append(samples.astype(np.float32, copy=False))

    def write_pcm(self, pcm: NDArray[Any], *, clipped: int) -> None:
        """See `StemWriter`."""
        self._append(pcm, clipped)

    def close(self) -> None:
        """See `StemWriter`."""
        answer, onsets = self._stem.close()
        if "peaks" in answer:  # it was open
            self.peaks = answer["peaks"]
            self._heard = Heard(np.frombuffer(onsets, np.float32), np.array(answer["tones"]))

    def heard(self) -> Heard:
        """See `StemWriter`."""
        return self._heard

    def discard(self) -> None:
        """See `StemWriter`."""
        with suppress(UnmixError):
            self._stem.ask("discard")
        self._stem.close()
        self.path.unlink(missing_ok=True)  # if the process is gone

    def _append(self, samples: NDArray[Any], clipped: int = 0) -> None:
        answer, _ = self._stem.ask("samples", samples.tobytes(), type=samples.dtype.name, clipped=clipped)
        self.samples, self.clipped = answer["samples"], answer["clipped"]


class _Opened:
    """A song or stem in a process."""

    _numbers = count()

    def __init__(self, process: "_Process", do: str, path: Path, options: dict[str, Any], data: bytes) -> None:
        self._process = process
        self._number = next(self._numbers)
        process.opened.add(self._number)
        try:
            self.ask(do, data, path=str(path), **options)
        except BaseException:
            process.opened.discard(self._number)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, samples: bytes = b"", **options: Any) -> tuple[Message, bytes]:
        return self._process.ask({"do": do, "number": self._number, "options": options}, samples)

    def close(self) -> tuple[Message, bytes]:
        if self._number not in self._process.opened:
            return {}, b""
        self._process.opened.discard(self._number)
        return self.ask("close")


class _Process:
    """One process, which answers one request after the other; once it has died the next one starts another."""

    def __init__(self) -> None:
        self.opened: set[int] = set()  # the numbers of songs and stems
        self._running: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def ask(self, request: Message, samples: bytes) -> tuple[Message, bytes]:
        with self._turn:
            running = self._started()
            assert running.stdin is not None
            assert running.stdout is not None
            try:
                send(running.stdin, request, samples)
                answer, data = receive(running.stdout)
            except (EOFError, OSError) as error:
                self.end()
                message = "a process that decodes and encodes has ended"
                raise EngineError(message, code="codec_died", retryable=True) from error
        raise_told(answer)
        return answer, data

    def end(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.communicate()
            self._running = None

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._running is None:
            command = [sys.executable, "-P", "-m", "unmix.audio.codec_process"]
            # In a session of its own: Ctrl-C is for this process, which still has to remove what it has begun.
            self._running = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        return self._running


def _end(processes: list[_Process]) -> None:
    for process in processes:
        process.end()
