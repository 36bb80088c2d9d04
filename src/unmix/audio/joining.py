"""Joining: the stems of a song of its parts, in their order, as they come.

A part that was just made goes on to the encoders as samples; one that somebody else made, or that would have to wait
for others, is read from its FLACs. Both give the same bits, as encoders take integers. Memory does not grow with the
song.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from numpy.typing import NDArray

from unmix.audio.encode import Writer
from unmix.audio.song_reader import SongReader
from unmix.errors import AudioError, EngineError

#: Pieces of a part on their way to the encoders, for memory's sake.
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
    """Writes the stems of a song with `count` parts; of each stem its thread encodes what comes, part after part.

    Files wait where they are: whoever adds them goes on computing. Each part of them is encoded as a whole before the
    next one, so that what else the threads have to do comes in between. Whenever a part is encoded, `on_joined` is told
    how many are, in a thread of its own; what it raises, whoever adds or waits next is told.
    """

    def __init__(
        self,
        writers: Mapping[str, Writer],
        count: int,
        threads: Mapping[str, Executor],
        on_joined: Callable[[int], None],
    ) -> None:
        self._writers = writers
        self._count = count
        self._threads = threads
        self._on_joined = on_joined
        self._next = 0
        self._early: dict[int, tuple[Mapping[str, Path], Mapping[str, int], int]] = {}
        self._order = ThreadPoolExecutor(1)
        self._underway: deque[Future[None]] = deque()
        self._last_files: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._order.shutdown(cancel_futures=True)

    @property
    def missing(self) -> int:
        """How many parts have not come."""
        return self._count - self._next - len(self._early)

    @property
    def is_whole(self) -> bool:
        """Whether all parts have come."""
        return self._next == self._count

    def takes(self, index: int) -> bool:
        """Tell whether this part can be added as samples: it comes next, and they would not wait for files."""
        return index == self._next and (self._last_files is None or self._last_files.done())

    def add(self, samples: Sequence[NDArray[Any]], clipped: Mapping[str, int], *, ends_part: bool) -> None:
        """Add what was just made of the part that comes next: samples of each stem, as `StemWriter` takes them.

        Raises:
            EngineError: as `wait`, for what was added before.
        """
        self._next += ends_part
        self._submit(
            [
                (stem, partial(writer.write_pcm, pcm, clipped=clipped[stem]))
                for (stem, writer), pcm in zip(self._writers.items(), samples, strict=True)
            ],
            joined=self._next if ends_part else None,
        )
        while len(self._underway) > _UNDERWAY:
            self._underway.popleft().result()
        self._go_on()

    def add_files(self, index: int, files: Mapping[str, Path], clipped: Mapping[str, int], *, samples: int) -> None:
        """Add any part as FLACs of so many samples, which are removed once they are read.

        One that came before is passed over.

        Raises:
            EngineError: as `wait`, for what was added before.
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
            self._underway.popleft().result()

    def _go_on(self) -> None:
        while self._underway and self._underway[0].done():
            self._underway.popleft().result()
        while self._next in self._early:
            files, clipped, samples = self._early.pop(self._next)
            self._next += 1
            self._last_files = self._submit(
                [
                    (stem, partial(_write_file, writer, files[stem], clipped[stem], samples))
                    for stem, writer in self._writers.items()
                ],
                joined=self._next,
            )

    def _submit(self, work: list[tuple[str, Callable[[], None]]], joined: int | None) -> Future[None]:
        before = self._underway[-1] if self._underway else None

        def encode() -> None:
            if before is not None:
                before.result()  # nothing is put behind what is missing
            for encoded in [self._threads[stem].submit(write) for stem, write in work]:
                encoded.result()
            if joined is not None:
                self._on_joined(joined)

        self._underway.append(self._order.submit(encode))
        return self._underway[-1]


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
