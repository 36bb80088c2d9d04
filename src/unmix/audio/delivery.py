"""From stems as they are written to stems as they are delivered.

Most are delivered as they were written. A STEM.MP4, and stems in the sample rate of their song, are made when all
samples are there, of hidden files that have lost nothing: so whoever separates, as a whole or in parts, does so at
44.1 kHz whatever is wanted, and asks here as what to write stems, and what comes of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from unmix.audio.encode import StemWriter, Writer, stem_writers, write_errors
from unmix.audio.formats import STEM_MP4, check_format, check_rate, check_stems
from unmix.audio.level import Level
from unmix.audio.opening import check_sample_rate
from unmix.audio.resampling import resampled
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import SongReader
from unmix.audio.stem_mp4 import write_stem_mp4
from unmix.audio.tags import NO_TAGS, Tags
from unmix.errors import EngineError
from unmix.words import counted, were

#: What the one file is called where stems have names.
ALL_STEMS: Final = "stems"
#: The fewest bits of what is resampled: 16 are rounded to in the end only.
_FINE_BITS: Final = 24

#: Called again and again by what takes long; if it raises, nothing is left.
GoOn = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What is delivered, and what there is to say of it."""

    stems: dict[str, Path]
    clipped: dict[str, int]  # samples of each stem that were beyond full scale and clamped
    warnings: tuple[str, ...]  # what is wrong
    notes: tuple[str, ...] = ()  # what was done and is as it should be


class Delivery:
    """The stems of one song, written as `format`, of `bits` a sample, to `paths`; and so they are delivered."""

    def __init__(self, paths: dict[str, Path], format: str, bits: int) -> None:
        self.paths = paths
        self.format = format
        self.bits = bits

    def writers(
        self, open_writer: Callable[..., Writer], tags: Tags, **options: Any
    ) -> AbstractContextManager[list[Writer]]:
        """Open what the stems are written with: see `stem_writers`."""
        return stem_writers(self.paths, open_writer, tags, format=self.format, bits=self.bits, **options)

    def deliver(self, writers: Sequence[Writer], tags: Tags, go_on: GoOn) -> Delivered:
        """Make what is wanted of the stems that these have written, of a song with these tags.

        Raises:
            EngineError: it cannot be written (`write_failed`).
        """
        clipped = self._clipped(writers)
        return Delivered(self.paths, clipped, tuple(clip_warnings(clipped)))

    def _clipped(self, writers: Sequence[Writer]) -> dict[str, int]:
        return {stem: writer.clipped for stem, writer in zip(self.paths, writers, strict=True)}


class _MadeAnew(Delivery):
    """Stems that are written to hidden files without tags first."""

    def __init__(self, folder: Path, stems: Sequence[str], format: str, bits: int) -> None:
        super().__init__({stem: folder / f".{stem}.{format}" for stem in stems}, format, bits)

    def writers(
        self, open_writer: Callable[..., Writer], tags: Tags, **options: Any
    ) -> AbstractContextManager[list[Writer]]:
        return super().writers(open_writer, NO_TAGS, **options)

    @contextmanager
    def _read_once(self) -> Iterator[None]:
        """Remove the hidden files, on every way out."""
        try:
            yield
        finally:
            for path in self.paths.values():
                with suppress(OSError):
                    path.unlink()


class _InOneFile(_MadeAnew):
    """Stems that become one STEM.MP4."""

    def __init__(self, folder: Path, stems: Sequence[str], bits: int) -> None:
        super().__init__(folder, stems, "flac", bits)
        self._path = folder / f"{ALL_STEMS}.{STEM_MP4}"

    def deliver(self, writers: Sequence[Writer], tags: Tags, go_on: GoOn) -> Delivered:
        part = self._path.with_name(f".{self._path.name}.part")
        with self._read_once():
            try:
                with write_errors(self._path):
                    beyond = write_stem_mp4(part, self.paths, go_on, tags)
                    part.replace(self._path)
            finally:
                with suppress(OSError):
                    part.unlink()
        clipped = self._clipped(writers)
        warnings = clip_warnings({**clipped, "the mixdown": beyond})
        return Delivered({ALL_STEMS: self._path}, clipped, tuple(warnings))


class _InOwnRate(_MadeAnew):
    """Stems that become so many `samples` at a `rate` that is not 44.1 kHz."""

    def __init__(self, folder: Path, stems: Sequence[str], format: str, bits: int, rate: int, samples: int) -> None:
        fine_bits = max(_FINE_BITS, bits)
        first = "flac" if fine_bits == _FINE_BITS else "wav"  # a FLAC has no floating point
        super().__init__(folder, stems, first, fine_bits)
        self._wanted = Delivery(_named(folder, stems, format), format, bits)
        self._rate = rate
        self._samples = samples

    def deliver(self, writers: Sequence[Writer], tags: Tags, go_on: GoOn) -> Delivered:
        first = self._clipped(writers)
        with (
            self._read_once(),
            self._wanted.writers(StemWriter, tags, rate=self._rate, listens=False) as wanted,
        ):
            for path, writer in zip(self.paths.values(), wanted, strict=True):
                for chunk in resampled(SongReader(path), self._rate):
                    go_on()
                    writer.write(chunk[:, : self._samples - writer.samples])
                path.unlink(missing_ok=True)  # early: both together are large
                if writer.samples != self._samples:
                    raise EngineError("a stem has not the length of its song")
        clipped = {stem: first[stem] + writer.clipped for stem, writer in zip(self.paths, wanted, strict=True)}
        notes = (f"stems were resampled from {SAMPLE_RATE} Hz to {self._rate} Hz",)
        return Delivered(self._wanted.paths, clipped, tuple(clip_warnings(clipped)), notes)


def delivery_of(
    folder: Path, stems: Sequence[str], level: Level, region: range, *, format: str, bits: int, song_rate: bool
) -> Delivery:
    """Return how stems of a region of a song come to `folder`, in the song's own rate with `song_rate`.

    Of a whole song they have exactly its samples, of a part of it as many as last as long, rounded up.

    Raises:
        InputError: they cannot be had so (`unknown_format`, `unknown_bits`, `unknown_rate`).
        AudioError: no song has such a rate (`bad_sample_rate`).
    """
    check_format(format, bits)
    check_stems(format, stems)
    check_rate(format, song_rate=song_rate)
    if format == STEM_MP4:
        return _InOneFile(folder, stems, bits)
    rate = level.own_rate
    if not song_rate or rate == SAMPLE_RATE:
        return Delivery(_named(folder, stems, format), format, bits)
    check_sample_rate(rate, "wav")  # it was told by a process that has read a stranger's bytes
    is_whole = region == range(level.samples)
    samples = level.own_samples if is_whole else -(-len(region) * rate // SAMPLE_RATE)
    return _InOwnRate(folder, stems, format, bits, rate, samples)


def _named(folder: Path, stems: Sequence[str], format: str) -> dict[str, Path]:
    return {stem: folder / f"{stem}.{format}" for stem in stems}


def clip_warnings(clipped: Mapping[str, int]) -> Iterator[str]:
    """Say of each stem how many of its samples were clipped, if any were."""
    for stem, samples in clipped.items():
        if samples:
            yield f"{counted(samples, 'sample')} of {stem} {were(samples)} beyond full scale and clipped"
