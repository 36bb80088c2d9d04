"""Joining: the stems of a song of its parts, in their order, as they come.

A part that was just made goes on to the encoders as samples; one that somebody else made, or that came too early, is
read from its FLACs. Both give the same bits, as encoders take integers. Memory does not grow with the song.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from unmix.audio.encode import Writer
from unmix.audio.song_reader import SongReader
from unmix.errors import AudioError, EngineError

#: Parts, or pieces of one, on their way to the encoders, for memory's sake.
_UNDERWAY: Final = 2


@contextmanager
def stem_threads(stems: Sequence[str]) -> Iterator[dict[str, ThreadPoolExecutor]]:
    """Give each stem a thread for all that is written of it: every thread keeps the memory that it ever had."""
    threads = {stem: ThreadPoolExecutor(1) for stem in stems}
    try:
        yield threads
    finally:
        for thread in threads.values():
            thread.shutdown(cancel_futures=True)


class Joiner:
    """Writes the stems of a song with `count` parts; of each stem its thread encodes what comes."""

    def __init__(self, writers: Mapping[str, Writer], count: int, threads: Mapping[str, Executor]) -> None:
        self._writers = writers
        self._count = count
        self._next = 0
        self._early: dict[int, tuple[Mapping[str, Path], Mapping[str, int], int]] = {}
        self._threads = threads
        self._underway: deque[list[Future[None]]] = deque()

    @property
    def wanted(self) -> int:
        """Number of the part that comes next, or how many there are once all have come."""
        return self._next

    @property
    def missing(self) -> int:
        """How many parts have not come."""
        return self._count - self._next - len(self._early)

    @property
    def is_whole(self) -> bool:
        """Whether all parts have come."""
        return self._next == self._count

    def add(self, samples: Sequence[NDArray[Any]], clipped: Mapping[str, int], *, ends_part: bool) -> None:
        """Add what was just made of the wanted part: samples of each stem, as `StemWriter.write_pcm` takes them."""
        self._submit(
            [
                self._threads[stem].submit(writer.write_pcm, pcm, clipped=clipped[stem])
                for (stem, writer), pcm in zip(self._writers.items(), samples, strict=True)
            ]
        )
        if ends_part:
            self._next += 1
            self._go_on()

    def add_files(self, index: int, files: Mapping[str, Path], clipped: Mapping[str, int], *, samples: int) -> None:
        """Add any part as FLACs of so many samples, which are removed once they are read.

        One that came before is passed over.
        """
        if index >= self._next and index not in self._early:
            self._early[index] = files, clipped, samples
            self._go_on()

    def wait(self) -> None:
        """Return when all that was added is encoded.

        Raises:
            EngineError: a stem cannot be written, or a file is not what a part is (`part_damaged`).
        """
        while self._underway:
            for encoded in self._underway.popleft():
                encoded.result()

    def _go_on(self) -> None:
        while self._next in self._early:
            files, clipped, samples = self._early.pop(self._next)
            self._submit(
                [
                    self._threads[stem].submit(_write_file, writer, files[stem], clipped[stem], samples)
                    for stem, writer in self._writers.items()
                ]
            )
            self._next += 1

    def _submit(self, encoding: list[Future[None]]) -> None:
        self._underway.append(encoding)
        while len(self._underway) > _UNDERWAY:
            for encoded in self._underway.popleft():
                encoded.result()


def _write_file(writer: Writer, path: Path, clipped: int, samples: int) -> None:
    """Append the samples of a FLAC, and remove it."""
    before = writer.samples
    try:
        for chunk in SongReader(path):
            writer.write(chunk)
    except AudioError as error:
        raise EngineError(f"{path.name} is no part: {error.message}", code="part_damaged", retryable=True) from error
    if writer.samples != before + samples:
        raise EngineError(f"{path.name} has not the length of its part", code="part_damaged", retryable=True)
    writer.clipped += clipped
    path.unlink(missing_ok=True)
