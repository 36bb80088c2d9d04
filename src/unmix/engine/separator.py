"""One song end to end: a file in, one file per stem out, with a model that stays loaded.

The song is decoded twice: once to measure it, because the models want a song normalised as a whole, and once to
separate it window by window into encoders that write as it goes. So memory does not grow with the song. Where files
come from and go to in the service is the worker's; the windows are `segments`'.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from unmix.audio import SAMPLE_RATE, SongReader
from unmix.encode import FORMATS, StemWriter, write_errors
from unmix.engine.models import LoadedModel
from unmix.engine.resample import torchaudio_resample
from unmix.engine.segments import SegmentStream
from unmix.errors import EngineError, InputError

#: Told how many of how many segments are done; may raise to stop the separation.
OnProgress = Callable[[int, int], None]


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
    """Separates songs with one model, one at a time.

    `shifts` is 0 and the order of all sums is fixed: the same song gives the same samples again on the same machine.
    `threads` sets how many threads torch uses in this process; 0 leaves that to torch.

    Raises:
        EngineError: `device_unavailable`, or `torchaudio_needed` for a model that does not run at 44.1 kHz.
    """

    def __init__(self, model: LoadedModel, *, device: str = "cpu", threads: int = 0) -> None:
        self.model = model
        self.device = device
        _check_device(device)
        if threads:
            torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = True
        torch.backends.mha.set_fastpath_enabled(False)  # 1.08 times faster without, to 138 dB the same
        self._resample = torchaudio_resample() if model.sample_rate != SAMPLE_RATE else None
        model.module.to(device)

    def separate_file(
        self,
        song: Path,
        out_dir: Path,
        *,
        stems: Sequence[str] = (),
        format: str = "mp3",
        bitrate_kbps: int = 192,
        max_seconds: float = math.inf,
        on_progress: OnProgress | None = None,
    ) -> Separation:
        """Separate `song` into `out_dir/<stem>.<format>`, all stems of the model if none are named.

        Either all files are there in the end or none. What exceeds full scale is clamped and counted.

        Raises:
            InputError: a stem that the model does not have (`unknown_stem`), or an `unknown_format`.
            AudioError: the song cannot be decoded.
            EngineError: the separation failed, or a file could not be written.
        """
        started = time.monotonic()
        asked = self._asked_stems(stems)
        if format not in FORMATS:
            raise InputError(f"no format {format!r}; there are {', '.join(FORMATS)}", code="unknown_format")
        reader = SongReader(song, max_seconds=max_seconds)
        segments = 0

        def report(done: int, total: int) -> None:
            nonlocal segments
            segments = total
            if on_progress:
                on_progress(done, total)

        paths = [out_dir / f"{stem}.{format}" for stem in asked]
        with torch.inference_mode(), _stem_writers(paths, format, bitrate_kbps) as writers:
            for stretch in self._estimates(reader, asked, report):
                for writer, estimate in zip(writers, stretch, strict=True):
                    writer.write(estimate.numpy())
            if any(writer.samples != reader.info.samples for writer in writers):
                raise EngineError("a stem has not the length of its song")
        return Separation(
            stems=dict(zip(asked, paths, strict=True)),
            samples=reader.info.samples,
            clipped={stem: writer.clipped for stem, writer in zip(asked, writers, strict=True)},
            warnings=reader.info.warnings,
            segments=segments,
            seconds=time.monotonic() - started,
        )

    def _asked_stems(self, stems: Sequence[str]) -> list[str]:
        for stem in stems:
            if stem not in self.model.sources:
                known = ", ".join(self.model.sources)
                raise InputError(f"model {self.model.name} has no stem {stem!r}; it has {known}", code="unknown_stem")
        return list(dict.fromkeys(stems or self.model.sources))

    def _estimates(self, reader: SongReader, stems: Sequence[str], on_progress: OnProgress) -> Iterator[Tensor]:
        """Yield consecutive stretches (stems, 2, time) at 44.1 kHz."""
        if self._resample is None:
            level = Level.of(_tensors(reader))
            yield from self._separated(_tensors(reader), level, stems, on_progress)
            return
        # Rare, so simple: a song for a model of another rate is held in memory as a whole.
        song = torch.cat(list(_tensors(reader)), dim=-1)
        mixture = self._resample(song, SAMPLE_RATE, self.model.sample_rate)
        stretches = self._separated([mixture], Level.of([mixture]), stems, on_progress)
        estimates = torch.cat(list(stretches), dim=-1)
        yield self._resample(estimates, self.model.sample_rate, SAMPLE_RATE)[..., : song.shape[-1]]

    def _separated(
        self, mixture: Iterable[Tensor], level: "Level", stems: Sequence[str], on_progress: OnProgress
    ) -> Iterator[Tensor]:
        """Yield consecutive stretches (stems, 2, time) at the model's rate."""
        stream = SegmentStream(self.model.module, level.samples, [self.model.sources.index(stem) for stem in stems])
        on_progress(0, len(stream))
        normalised = ((chunk - level.mean) / level.std for chunk in mixture)
        for stretch in stream.estimates(normalised, lambda done: on_progress(done, len(stream))):
            yield stretch * level.std + level.mean


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


def _tensors(reader: SongReader) -> Iterator[Tensor]:
    return (torch.from_numpy(chunk) for chunk in reader)


@contextmanager
def _stem_writers(paths: Sequence[Path], format: str, bitrate_kbps: int) -> Iterator[list[StemWriter]]:
    """Open a writer for every path; give the files their names at the end, or leave none behind."""
    writers: list[StemWriter] = []
    try:
        for path in paths:
            with write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            writers.append(StemWriter(part, format=format, bitrate_kbps=bitrate_kbps))
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


def _check_device(name: str) -> None:
    """Refuse a device that is not there, rather than compute elsewhere."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EngineError(f"there is no device {name!r}", code="device_unavailable") from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise EngineError(f"the device {name!r} is not available on this machine", code="device_unavailable")
