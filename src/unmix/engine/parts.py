"""Parts: stretches of a song that are made on their own, and are bit by bit what the whole song gives there.

Owns where parts lie and how they are made. Who makes which, where they are kept and how stems are made of them is the
worker's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import torch
from torch import Tensor

from unmix.audio.level import Level
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import Reader
from unmix.engine.faults import faults_named
from unmix.engine.passes import Passes
from unmix.engine.segments import Plan
from unmix.engine.separator import Separator
from unmix.engine.stems import StemPlan
from unmix.engine.transfer import rounded
from unmix.errors import EngineError

#: Strides of the model's windows, as they overlap by default, that a part lasts: 11.7 s with htdemucs. A part that is
#: made on its own takes one window more than that.
PART_STRIDES: Final = 2


@dataclass(frozen=True, slots=True)
class PartGrid:
    """Where the parts of a song lie; it depends on the model and the song's length alone."""

    samples: int  # of the song, per channel
    length: int  # of every part but the last, in samples

    @classmethod
    def of(cls, separator: Separator, samples: int) -> "PartGrid | None":
        """Return the grid of a song; None for a model of another rate than the stems', which hears it as a whole."""
        if separator.model.sample_rate != SAMPLE_RATE:
            return None
        longest = max(Plan(model, samples).stride for model in separator.model.module.models)
        return cls(samples, PART_STRIDES * longest)

    def __len__(self) -> int:
        return -(-self.samples // self.length)

    def part(self, index: int) -> range:
        """Return the samples of part number `index`, from 0."""
        return range(index * self.length, min((index + 1) * self.length, self.samples))


@dataclass(frozen=True, slots=True)
class Piece:
    """The next samples of a part as they go to encoders: `StemWriter.write_pcm` takes those of each stem."""

    index: int  # of the part
    pcm: Tensor  # (stems, 2, time)
    clipped: list[int]  # samples of each stem
    is_last: bool  # of its part


class PartMaker:
    """Makes parts of one song."""

    def __init__(
        self,
        separator: Separator,
        song: Path,
        level: Level,
        grid: PartGrid,
        plan: StemPlan,
        passes: Passes,
        *,
        bits: int,
    ) -> None:
        self._separator = separator
        self._song = song
        self._level = level
        self._grid = grid
        self._plan = plan
        self._passes = passes
        self._bits = bits
        self._decoding: _Decoding | None = None

    def pieces(self, first: int, on_windows: Callable[[int], None]) -> Iterator[Piece]:
        """Yield the parts from number `first` on to the song's end, in pieces.

        `on_windows` is told how many more windows are done. Whoever does not want all parts stops: nothing is computed
        ahead. To be used in `torch.inference_mode`.

        Raises:
            AudioError, EngineError: as `Separator.separate_file`.
        """
        region = range(self._grid.part(first).start, self._grid.samples)
        index, missing, windows = first, len(self._grid.part(first)), 0

        def report(done: int, _: int) -> None:
            nonlocal windows
            windows, more = done, done - windows
            on_windows(more)

        with faults_named():
            estimates = self._separator.stretches(
                self._decoded, self._level, self._plan.sources, report, region, self._passes
            )
            for mixture, stretch in estimates:
                stems = self._plan.stems(mixture, stretch)
                while stems[0].shape[-1]:
                    pcm, clipped, finite = rounded([stem[..., :missing] for stem in stems], self._bits)
                    stems = [stem[..., missing:] for stem in stems]
                    if not finite:
                        raise EngineError("the model gave samples that are not finite")
                    missing -= pcm.shape[-1]
                    yield Piece(index, pcm.cpu(), clipped.tolist(), is_last=not missing)
                    if not missing:
                        index, missing = index + 1, len(self._grid.part(index + 1))

    def _decoded(self, first_sample: int) -> tuple["_Decoding", int]:
        """Return the song from `first_sample` on, or from a little before it, and from which sample on.

        Runs mostly go forward, and then the song is decoded once in all.
        """
        if self._decoding is None or self._decoding.position > first_sample:
            self._decoding = _Decoding(self._separator.open_song(self._song))
        self._decoding.skip_to(first_sample)
        return self._decoding, self._decoding.position


class _Decoding:
    """One way through a song."""

    def __init__(self, song: Reader) -> None:
        self.position = 0  # of the next chunk, in samples
        self._chunks = iter(song)
        self._chunk: Tensor | None = None  # that comes next, if it was decoded already

    def skip_to(self, sample: int) -> None:
        """Go on to the chunk that has this sample."""
        while (chunk := self._decode()) is not None and self.position + chunk.shape[-1] <= sample:
            next(self)

    def _decode(self) -> Tensor | None:
        if self._chunk is None and (chunk := next(self._chunks, None)) is not None:
            self._chunk = torch.from_numpy(chunk)
        return self._chunk

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Tensor:
        chunk = self._decode()
        if chunk is None:
            raise StopIteration
        self._chunk = None
        self.position += chunk.shape[-1]
        return chunk
