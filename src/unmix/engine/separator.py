"""One song end to end: a file in, one file per stem out, with a model that stays loaded.

The song is decoded to measure it, because the models want a song normalised as a whole, unless somebody has measured
it before; and to separate it window by window into encoders that write as it goes. So memory does not grow with the
song. Where files come from and go to in the service is the worker's; the windows are `segments`'.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from unmix.audio.codec_pool import CodecPool
from unmix.audio.delivery import delivery_of
from unmix.audio.ear import Heard
from unmix.audio.encode import MP3_QUALITY, StemWriter, Writer
from unmix.audio.level import Level
from unmix.audio.passes import OVERLAP
from unmix.audio.region import region_of
from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.audio.song_reader import OpenSong, SongReader, measured
from unmix.audio.tags import ReadTags, tags_of
from unmix.engine.backends import Backend, Precision, make_engine
from unmix.engine.faults import faults_named
from unmix.engine.memory import give_back, needed_mb
from unmix.engine.models import LoadedModel
from unmix.engine.passes import Passes
from unmix.engine.resample import torchaudio_resample
from unmix.engine.segments import SegmentStream
from unmix.engine.shared import SharedEstimator
from unmix.engine.stems import plan_stems
from unmix.engine.transfer import delivered, on_device
from unmix.errors import EngineError
from unmix.resources import usable_processors

#: Told how many of how many segments are done; may raise to stop the separation.
OnProgress = Callable[[int, int], None]

#: Gives a song, (2, time) in chunks, for the number of the first sample that is needed, and tells with which sample it
#: begins: at the latest that one. It goes on to the song's end.
Mixture = Callable[[int], tuple[Iterable[Tensor], int]]

#: Where converted models are kept unless told otherwise.
CACHE_DIR: Final = Path("~/.cache/track-unmix")


@dataclass(frozen=True, slots=True)
class Separation:
    """What came of a song."""

    stems: dict[str, Path]
    samples: int  # of every stem, per channel, as it was separated at 44.1 kHz
    song_samples: int  # of the song, which may be longer
    clipped: dict[str, int]  # samples of each stem that were beyond full scale and clamped
    warnings: tuple[str, ...]  # what is wrong with the song or its stems
    notes: tuple[str, ...]  # what was done to the song and is as it should be
    segments: int
    seconds: float  # that it took
    peaks: dict[str, list[int]]  # of each stem: see `unmix.audio.peaks`
    heard: dict[str, Heard]  # in each stem: see `unmix.audio.music`

    @property
    def duration_seconds(self) -> float:
        """Length of the song."""
        return self.song_samples / SAMPLE_RATE


class Separator:
    """Separates songs with one model, which is the separator's from then on.

    With `at_once` above 1 it may be called from so many threads at once: their songs then share batches of windows,
    and are decoded and encoded by processes beside this one. `backend` and `precision` are those of `backends`;
    `threads` is for computing on the CPU, 0 leaves it to torch; `cache_dir` keeps converted models. `open_song` opens
    songs, if it is one at a time, and `read_tags` reads what is written in them. Shifts follow from the song and the
    order of all sums is fixed: the same song gives the same samples again on the same machine.

    Raises:
        EngineError: `device_unavailable`, `backend_unavailable`, or `torchaudio_needed` for a model that does not run
            at 44.1 kHz.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        device: str = "cpu",
        backend: Backend = "auto",
        precision: Precision = "fast",
        threads: int = 0,
        cache_dir: Path = CACHE_DIR,
        at_once: int = 1,
        open_song: OpenSong = SongReader,
        read_tags: ReadTags = tags_of,
    ) -> None:
        self.model = model
        self.device = device
        self.open_song = open_song
        self.read_tags = read_tags
        if threads:
            torch.set_num_threads(threads)
        self._resample = torchaudio_resample() if model.sample_rate != SAMPLE_RATE else None
        self._engine = make_engine(
            model,
            device=device,
            backend=backend,
            precision=precision,
            threads=torch.get_num_threads(),
            cache_dir=cache_dir.expanduser(),
        )
        self._estimators = self._engine.estimators
        self._writer: Callable[..., Writer] = StemWriter
        if at_once > 1:
            self._estimators = [SharedEstimator(estimator) for estimator in self._estimators]
            codecs = CodecPool(usable_processors())
            self.open_song, self._writer = codecs.reader, codecs.writer
        if not self._engine.needs_weights:
            _release_weights(model)

    @property
    def backend(self) -> str:
        """Library and version that compute, as `openvino 2026.4.1`."""
        return self._engine.backend

    @property
    def precision(self) -> str:
        """What really runs: `exact` or `fast`."""
        return self._engine.precision

    @property
    def needed_mb(self) -> int:
        """How many MiB this process needs to separate all stems; 0: not known."""
        return needed_mb(self.model, self.device)

    @faults_named()
    def separate_file(
        self,
        song: Path,
        out_dir: Path,
        *,
        stems: Sequence[str] = (),
        format: str = "mp3",
        bits: int = 16,
        song_rate: bool = False,
        bitrate_kbps: int = 256,
        mp3_quality: int = MP3_QUALITY,
        min_seconds: float = 0.0,
        max_seconds: float = math.inf,
        mixture_consistency: bool = False,
        overlap: float = OVERLAP,
        shifts: int = 0,
        start: float = 0.0,
        end: float | None = None,
        level: Level | None = None,
        on_progress: OnProgress | None = None,
    ) -> Separation:
        """Separate `song` into `out_dir/<stem>.<format>`, all sources of the model if no stems are named.

        With `stem.mp4` it is one file. With `song_rate` they have the sample rate of the song, and not 44.1 kHz.

        Either all files are there in the end or none. What exceeds full scale is clamped and counted. With
        `mixture_consistency` the estimates of all sources are made to add up to the song first. Windows overlap by
        `overlap`, and with `shifts` as many estimates of the shifted song are averaged. From `start` to `end`
        in seconds the stems are what they would be there if the whole song was separated. The song's `level` saves one
        of two decodes, and changes no sample; one that another version measured is not used.

        Raises:
            InputError: a stem that the model cannot give (`unknown_stem`), a format there is not (`unknown_format`,
                `unknown_bits`, `unknown_rate`), a region that the song does not have (`bad_region`), or an overlap or
                shifts that are not on offer (`out_of_range`).
            AudioError: the song cannot be decoded, or is shorter or longer than allowed.
            OutOfMemoryError: there was too little memory.
            DeviceError: the device failed; nothing more can be separated in this process.
            EngineError: the separation failed, or a file could not be written.
        """
        started = time.monotonic()
        plan = plan_stems(self.model, stems, mixture_consistency=mixture_consistency)
        passes = Passes.of(song, overlap, shifts)
        reader = self.open_song(song, min_seconds=min_seconds, max_seconds=max_seconds)
        if level is None or not level.is_of_this_version:
            level = measured(reader).level
        region = region_of(start, end, samples=level.samples)
        delivery = delivery_of(out_dir, plan.names, level, region, format=format, bits=bits, song_rate=song_rate)
        segments = 0

        def report(done: int, total: int) -> None:
            nonlocal segments
            segments = total
            if on_progress:
                on_progress(done, total)

        tags = self.read_tags(song)
        with (
            torch.inference_mode(),
            delivery.writers(self._writer, tags, bitrate_kbps=bitrate_kbps, mp3_quality=mp3_quality) as writers,
            ThreadPoolExecutor(len(writers)) as pool,
        ):
            encoding: list[Future[None]] = []
            estimates = self._estimates(reader, level, plan.sources, region, passes, report)
            for made in delivered((plan.stems(*stretch) for stretch in estimates), bits=delivery.bits):
                _wait(encoding)  # no more than one stretch at a time, for memory's sake
                encoding = [pool.submit(write, writer) for write, writer in zip(made, writers, strict=True)]
            _wait(encoding)
            if reader.info.samples != level.samples or any(writer.samples != len(region) for writer in writers):
                raise EngineError("a stem has not the length of its song")
        result = delivery.deliver(writers, tags, lambda: report(segments, segments))
        return Separation(
            stems=result.stems,
            samples=len(region),
            song_samples=reader.info.samples,
            clipped=result.clipped,
            warnings=(*reader.info.warnings, *result.warnings),
            notes=(*reader.info.notes, *result.notes),
            segments=segments,
            seconds=time.monotonic() - started,
            peaks={stem: writer.peaks for stem, writer in zip(plan.names, writers, strict=True)},
            heard={stem: writer.heard() for stem, writer in zip(plan.names, writers, strict=True)},
        )

    def _estimates(
        self,
        reader: Iterable[Samples],
        level: Level,
        sources: Sequence[str],
        region: range,
        passes: Passes,
        on_progress: OnProgress,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the mixture (2, time) and the estimates (sources, 2, time) of consecutive stretches at 44.1 kHz."""
        if self._resample is None:
            yield from self.stretches(lambda _: (_tensors(reader), 0), level, sources, on_progress, region, passes)
            return
        # Rare, so simple: a song for a model of another rate is held in memory as a whole.
        song = torch.cat(list(_tensors(reader)), dim=-1)
        mixture = self._resample(song, SAMPLE_RATE, self.model.sample_rate)
        level = Level.of([mixture.numpy()])
        stretches = self.stretches(lambda _: ([mixture], 0), level, sources, on_progress, passes=passes)
        estimates = torch.cat([stretch.cpu() for _, stretch in stretches], dim=-1)
        wanted = slice(region.start, region.stop)
        yield song[..., wanted], self._resample(estimates, self.model.sample_rate, SAMPLE_RATE)[..., wanted]

    def stretches(
        self,
        mixture: Mixture,
        level: Level,
        sources: Sequence[str],
        on_progress: OnProgress,
        region: range | None = None,
        passes: Passes | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the mixture (2, time) and the estimates (sources, 2, time) of stretches at the model's rate.

        Raises:
            EngineError: as `SegmentStream.estimates`.
        """
        indexes = [self.model.sources.index(name) for name in sources]
        stream = SegmentStream(self._estimators, self.model.module.weights, level.samples, indexes, region, passes)
        on_progress(0, len(stream))
        chunks, begin = mixture(stream.first_sample)
        normalised = ((on_device(chunk, stream.device) - level.mean) / level.std for chunk in chunks)
        estimated = stream.estimates(normalised, lambda done: on_progress(done, len(stream)), begin=begin)
        for stretch, estimates in estimated:
            yield stretch * level.std + level.mean, estimates * level.std + level.mean


def _release_weights(model: LoadedModel) -> None:
    """Give the memory of the weights back to the system; what would still compute with them fails."""
    model.module.to("meta")
    give_back()


def _wait(futures: Iterable[Future[None]]) -> None:
    """Wait until all are done; raises what the first that failed raised."""
    for future in futures:
        future.result()


def _tensors(reader: Iterable[Samples]) -> Iterator[Tensor]:
    return (torch.from_numpy(chunk) for chunk in reader)
