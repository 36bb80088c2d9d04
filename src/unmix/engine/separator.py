"""One song end to end: a file in, one file per stem out, with a model that stays loaded.

The song is decoded twice: once to measure it, because the models want a song normalised as a whole, and once to
separate it window by window into encoders that write as it goes. So memory does not grow with the song. Where files
come from and go to in the service is the worker's; the windows are `segments`'.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import torch
from torch import Tensor

from unmix.audio.encode import MP3_QUALITY, StemWriter, write_errors
from unmix.audio.formats import MEDIA_TYPES
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import SongReader
from unmix.engine.backends import Backend, Precision, make_engine
from unmix.engine.faults import faults_named
from unmix.engine.memory import give_back, needed_mb
from unmix.engine.models import LoadedModel
from unmix.engine.resample import torchaudio_resample
from unmix.engine.segments import SegmentStream
from unmix.engine.stems import plan_stems
from unmix.errors import EngineError, InputError

#: Told how many of how many segments are done; may raise to stop the separation.
OnProgress = Callable[[int, int], None]

#: Where converted models are kept unless told otherwise.
CACHE_DIR: Final = Path("~/.cache/track-unmix")


@dataclass(frozen=True, slots=True)
class Separation:
    """What came of a song."""

    stems: dict[str, Path]
    samples: int  # of the song and of every stem, per channel, at 44.1 kHz
    clipped: dict[str, int]  # samples of each stem that were beyond full scale and clamped
    warnings: tuple[str, ...]
    segments: int
    seconds: float  # that it took

    @property
    def duration_seconds(self) -> float:
        """Length of the song."""
        return self.samples / SAMPLE_RATE


class Separator:
    """Separates songs with one model, one at a time. The model is the separator's from then on.

    `backend` and `precision` are those of `backends`; `threads` is for computing on the CPU, 0 leaves it to torch;
    `cache_dir` keeps converted models. `shifts` is 0 and the order of all sums is fixed: the same song gives the same
    samples again on the same machine.

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
    ) -> None:
        self.model = model
        self.device = device
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
        bitrate_kbps: int = 256,
        mp3_quality: int = MP3_QUALITY,
        max_seconds: float = math.inf,
        mixture_consistency: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Separation:
        """Separate `song` into `out_dir/<stem>.<format>`, all sources of the model if no stems are named.

        Either all files are there in the end or none. What exceeds full scale is clamped and counted. With
        `mixture_consistency` the estimates of all sources are made to add up to the song first.

        Raises:
            InputError: a stem that the model cannot give (`unknown_stem`), or an `unknown_format`.
            AudioError: the song cannot be decoded.
            OutOfMemoryError: there was too little memory.
            DeviceError: the device failed; nothing more can be separated in this process.
            EngineError: the separation failed, or a file could not be written.
        """
        started = time.monotonic()
        plan = plan_stems(self.model, stems, mixture_consistency=mixture_consistency)
        if format not in MEDIA_TYPES:
            raise InputError(f"no format {format!r}; there are {', '.join(MEDIA_TYPES)}", code="unknown_format")
        reader = SongReader(song, max_seconds=max_seconds)
        segments = 0

        def report(done: int, total: int) -> None:
            nonlocal segments
            segments = total
            if on_progress:
                on_progress(done, total)

        paths = [out_dir / f"{stem}.{format}" for stem in plan.names]
        with (
            torch.inference_mode(),
            _stem_writers(paths, format, bitrate_kbps, mp3_quality) as writers,
            ThreadPoolExecutor(len(writers)) as pool,
        ):
            encoding: list[Future[None]] = []
            for mixture, estimates in self._estimates(reader, plan.sources, report):
                _wait(encoding)  # no more than one stretch at a time, for memory's sake
                made = plan.stems(mixture, estimates)
                encoding = [pool.submit(writer.write, stem.numpy()) for writer, stem in zip(writers, made, strict=True)]
            _wait(encoding)
            if any(writer.samples != reader.info.samples for writer in writers):
                raise EngineError("a stem has not the length of its song")
        return Separation(
            stems=dict(zip(plan.names, paths, strict=True)),
            samples=reader.info.samples,
            clipped={stem: writer.clipped for stem, writer in zip(plan.names, writers, strict=True)},
            warnings=reader.info.warnings,
            segments=segments,
            seconds=time.monotonic() - started,
        )

    def _estimates(
        self, reader: SongReader, sources: Sequence[str], on_progress: OnProgress
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the mixture (2, time) and the estimates (sources, 2, time) of consecutive stretches at 44.1 kHz."""
        if self._resample is None:
            level = Level.of(_tensors(reader))
            yield from self._separated(_tensors(reader), level, sources, on_progress)
            return
        # Rare, so simple: a song for a model of another rate is held in memory as a whole.
        song = torch.cat(list(_tensors(reader)), dim=-1)
        mixture = self._resample(song, SAMPLE_RATE, self.model.sample_rate)
        stretches = self._separated([mixture], Level.of([mixture]), sources, on_progress)
        estimates = torch.cat([stretch for _, stretch in stretches], dim=-1)
        yield song, self._resample(estimates, self.model.sample_rate, SAMPLE_RATE)[..., : song.shape[-1]]

    def _separated(
        self, mixture: Iterable[Tensor], level: "Level", sources: Sequence[str], on_progress: OnProgress
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the mixture (2, time) and the estimates (sources, 2, time) of stretches at the model's rate."""
        indexes = [self.model.sources.index(name) for name in sources]
        stream = SegmentStream(self._engine.estimators, self.model.module.weights, level.samples, indexes)
        on_progress(0, len(stream))
        normalised = ((chunk - level.mean) / level.std for chunk in mixture)
        for stretch, estimates in stream.estimates(normalised, lambda done: on_progress(done, len(stream))):
            yield stretch * level.std + level.mean, estimates * level.std + level.mean


@dataclass(frozen=True, slots=True)
class Level:
    """What demucs normalises a song by: mean and standard deviation of its mono mix."""

    samples: int
    mean: float
    std: float  # plus demucs' 1e-8, so that silence stays silence

    @classmethod
    def of(cls, mixture: Iterable[Tensor]) -> Self:
        """Measure the whole song, in float64: chunk by chunk, float32 would depend on the chunks."""
        samples, mean, squares = 0, 0.0, 0.0  # squares: the sum of squared distances to the mean
        for chunk in mixture:
            mono = chunk.double().mean(0)
            length, chunk_mean = len(mono), float(mono.mean())
            distance = chunk_mean - mean
            squares += float((mono - chunk_mean).square().sum())
            squares += distance**2 * samples * length / (samples + length)
            samples += length
            mean += distance * length / samples
        return cls(samples, mean, math.sqrt(squares / max(1, samples - 1)) + 1e-8)


def _release_weights(model: LoadedModel) -> None:
    """Give the memory of the weights back to the system; what would still compute with them fails."""
    model.module.to("meta")
    give_back()


def _wait(futures: Iterable[Future[None]]) -> None:
    """Wait until all are done; raises what the first that failed raised."""
    for future in futures:
        future.result()


def _tensors(reader: SongReader) -> Iterator[Tensor]:
    return (torch.from_numpy(chunk) for chunk in reader)


@contextmanager
def _stem_writers(
    paths: Sequence[Path], format: str, bitrate_kbps: int, mp3_quality: int
) -> Iterator[list[StemWriter]]:
    """Open a writer for every path; give the files their names at the end, or leave none behind."""
    writers: list[StemWriter] = []
    try:
        for path in paths:
            with write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            writers.append(StemWriter(part, format=format, bitrate_kbps=bitrate_kbps, mp3_quality=mp3_quality))
        yield writers
        for writer in writers:
            writer.close()
        for writer, path in zip(writers, paths, strict=True):
            with write_errors(path):
                writer.path.replace(path)
    except BaseException:  # an interrupted separation must not leave parts of stems either
        for writer in writers:
            writer.discard()
        raise
