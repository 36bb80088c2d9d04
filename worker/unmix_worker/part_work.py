"""The separating child's side of a song in parts: makes the runs that its parent names, and joins the stems.

Parts that it just made go on to the encoders as samples; those that others made, an earlier attempt or a helper, come
as files. `unmix_worker.parts` is the parent's side.
"""

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch

from unmix import engine
from unmix.audio.delivery import Delivered, delivery_of
from unmix.audio.ear import Heard
from unmix.audio.encode import StemWriter, stem_writers
from unmix.audio.joining import Joiner, stem_threads
from unmix.audio.level import Level, measuring
from unmix.audio.passes import OVERLAP
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import AudioInfo, measured
from unmix.audio.tags import NO_TAGS
from unmix.engine.parts import PART_STRIDES, PartGrid, PartMaker, Piece
from unmix.engine.passes import Passes
from unmix.engine.separator import Separator
from unmix.engine.stems import plan_stems
from unmix.errors import EngineError
from unmix.job import SongLevel
from unmix_worker.messages import (
    Event,
    MakeRun,
    NoMoreRuns,
    Order,
    PartMade,
    PartsBegun,
    PartsJoined,
    Progress,
    RunWanted,
    SeparationTask,
    UsePart,
)

Emit = Callable[[Event], None]
Receive = Callable[[], Order]


def part_work(
    separator: Separator, task: SeparationTask, level: Level | None, *, max_seconds: float, least_seconds: float
) -> "PartWork | None":
    """Return how to separate a song in parts; None if it is better separated as a whole.

    Raises:
        AudioError: the song cannot be decoded.
        InputError: the task asks for what there is not.
    """
    song = None
    if level is None or not level.is_of_this_version:
        song = measured(separator.open_song(Path(task.song), max_seconds=max_seconds))
        level = song.level
    grid = PartGrid.of(separator, level.samples)
    if grid is None or level.samples < least_seconds * SAMPLE_RATE:
        return None
    return PartWork(separator, task, song, level, grid)


class PartWork:
    """One song in parts, with one model."""

    def __init__(
        self, separator: Separator, task: SeparationTask, song: AudioInfo | None, level: Level, grid: PartGrid
    ) -> None:
        """Prepare; `song` is what was found when it was measured here."""
        self.duration_seconds = level.samples / SAMPLE_RATE
        self._notes = song.notes if song else ()
        self._warnings = song.warnings if song else ()  # those of a song that was measured before stand in its request
        self._task = task
        self._level = level
        self._grid = grid
        passes = Passes.of(Path(task.song), task.overlap, task.shifts)
        self._kind = parts_kind(separator, passes)
        self._read_tags = separator.read_tags
        self._windows_a_part = math.ceil(PART_STRIDES * (1 - OVERLAP) / (1 - passes.overlap)) * max(1, passes.shifts)
        plan = plan_stems(separator.model, task.stems, mixture_consistency=task.mixture_consistency)
        self._names = plan.names
        self._delivery = delivery_of(
            Path(task.out),
            plan.names,
            level,
            range(level.samples),
            format=task.format,
            bits=task.bits,
            song_rate=task.song_rate,
        )
        self._maker = PartMaker(separator, Path(task.song), level, grid, plan, passes, bits=self._delivery.bits)
        self._folder = Path(task.out) / "parts"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._pieces: Iterator[Piece] = iter(())
        self._next = -1  # the part that `_pieces` come to next
        self._windows = 0

    def join(self, emit: Emit, receive: Receive) -> tuple[Delivered, dict[str, list[int]], dict[str, Heard]]:
        """Make what is asked for and write the stems of the whole song.

        Returns them with what there is to say of them and the song, their peaks, and what was heard in them.
        """
        tags = self._read_tags(Path(self._task.song))
        with (
            torch.inference_mode(),
            self._delivery.writers(StemWriter, tags, bitrate_kbps=self._task.bitrate_kbps) as opened,
            stem_threads(self._names) as threads,
            self._forgotten_parts(),
            Joiner(
                writers := dict(zip(self._names, opened, strict=True)),
                len(self._grid),
                threads,
                on_joined=lambda parts: emit(PartsJoined(parts)),
            ) as joiner,
        ):
            self._begin(emit)
            while not joiner.is_whole:
                match receive():
                    case MakeRun(first, stop):
                        self._make(first, stop, emit, threads, joiner)
                    case UsePart(index, files, clipped):
                        self._use(index, files, clipped, joiner)
                        emit(self._progress(joiner))  # a song of which all parts were found is work, too
            joiner.wait()
            if any(writer.samples != self._level.samples for writer in opened):
                raise EngineError("a stem has not the length of its song")
        peaks = {stem: writer.peaks for stem, writer in writers.items()}
        heard = {stem: writer.heard() for stem, writer in writers.items()}
        made = self._delivery.deliver(opened, tags, lambda: emit(self._progress(joiner)))
        warnings, notes = (*self._warnings, *made.warnings), (*self._notes, *made.notes)
        return replace(made, warnings=warnings, notes=notes), peaks, heard

    def help(self, emit: Emit, receive: Receive) -> None:
        """Make what is asked for until nothing is."""
        with torch.inference_mode(), stem_threads(self._names) as threads, self._forgotten_parts():
            self._begin(emit)
            while not isinstance(order := receive(), NoMoreRuns):
                if isinstance(order, MakeRun):
                    self._make(order.first, order.stop, emit, threads, None)

    @contextmanager
    def _forgotten_parts(self) -> Iterator[None]:
        """Let go of the song's decoder at the end: what makes the parts holds this object, which holds it."""
        try:
            yield
        finally:
            self._pieces = iter(())

    def _begin(self, emit: Emit) -> None:
        level = self._level
        told = SongLevel(**asdict(level))
        emit(PartsBegun(len(self._grid), self._kind, told, self._grid.length, self._names))
        emit(RunWanted(0))

    def _use(self, index: int, files: dict[str, str], clipped: dict[str, int], joiner: Joiner) -> None:
        paths = {stem: Path(path) for stem, path in files.items()}
        joiner.add_files(index, paths, clipped, samples=len(self._grid.part(index)))

    def _make(self, first: int, stop: int, emit: Emit, threads: Mapping[str, Executor], joiner: Joiner | None) -> None:
        def report(windows: int) -> None:
            self._windows += windows
            emit(self._progress(joiner))

        if first != self._next:
            self._pieces = self._maker.pieces(first, report)
        self._next = stop
        index = -1
        with ExitStack() as writing:
            for piece in self._pieces_until(stop):
                if piece.index != index:
                    writing.close()  # the part before: it was written while this piece was computed
                    index = piece.index
                    add = writing.enter_context(self._part(index, emit, threads, joiner))
                add(piece)
        emit(RunWanted(stop))

    def _pieces_until(self, stop: int) -> Iterator[Piece]:
        """Yield the pieces of what comes next, up to the end of the part before number `stop`."""
        for piece in self._pieces:
            yield piece
            if piece.is_last and piece.index + 1 == stop:
                return

    @contextmanager
    def _part(
        self, index: int, emit: Emit, threads: Mapping[str, Executor], joiner: Joiner | None
    ) -> Iterator[Callable[[Piece], None]]:
        """Give what writes the pieces of a part, each stem in its thread; at the end the part is handed on."""
        stretch = self._grid.part(index)
        paths = {stem: self._folder / f"{index:05}.{stem}.flac" for stem in self._names}
        is_next = joiner is not None and joiner.takes(index)
        options = {"format": "flac", "bits": self._delivery.bits, "start": stretch.start, "listens": False}
        writing: list[Future[None]] = []
        with stem_writers(paths, StemWriter, NO_TAGS, **options) as opened:
            writers = dict(zip(paths, opened, strict=True))

            def add(piece: Piece) -> None:
                samples = [stem.numpy() for stem in piece.pcm]
                clipped = dict(zip(paths, piece.clipped, strict=True))
                for (stem, writer), pcm in zip(writers.items(), samples, strict=True):
                    writing.append(threads[stem].submit(writer.write_pcm, pcm, clipped=clipped[stem]))
                if joiner is not None and is_next:
                    joiner.add(samples, clipped, ends_part=piece.is_last)

            try:
                yield add
            finally:
                for written in writing:
                    written.result()
        clipped = {stem: writer.clipped for stem, writer in writers.items()}
        peaks = {stem: writer.peaks for stem, writer in writers.items()}
        if joiner is not None and not is_next:  # it came too early
            joiner.add_files(index, _linked(paths), clipped, samples=len(stretch))
        files = {stem: str(path) for stem, path in paths.items()}
        emit(PartMade(index, stretch.start, len(stretch), files, clipped, peaks))

    def _progress(self, joiner: Joiner | None) -> Progress:
        ahead = self._windows_a_part * joiner.missing if joiner else 0  # if nobody else makes any
        return Progress(self._windows, max(1, self._windows + ahead))


def _linked(files: dict[str, Path]) -> dict[str, Path]:
    """Give files other names: the parent removes them under their own once they are stored."""
    links = {stem: path.with_suffix(".early.flac") for stem, path in files.items()}
    for stem, link in links.items():
        link.unlink(missing_ok=True)
        try:
            link.hardlink_to(files[stem])
        except OSError:  # some file systems have none
            shutil.copyfile(files[stem], link)
    return links


def parts_kind(separator: Separator, passes: Passes) -> str:
    """Return a word that is the same for whatever gives the same samples, as far as can be told."""
    facts = [separator.model.weights_sha256, separator.backend, separator.device, torch.get_num_threads()]
    facts += [passes.overlap, passes.shifts]  # where these begin follows from the song
    code = [path.read_bytes() for path in sorted(Path(engine.__file__).parent.glob("*.py"))]
    digest = hashlib.sha256(f"{facts} {measuring()}".encode() + b"".join(code))
    return f"{separator.precision}-{digest.hexdigest()[:12]}"
