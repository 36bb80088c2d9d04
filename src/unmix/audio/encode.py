"""Stems as files: write samples piece by piece as mp3 or Vorbis, or with FFmpeg through PyAV as any other format.

Owns encoding and nothing of where files go: the engine separates into a `StemWriter` per stem; what an mp3 or an ogg
is made of is `unmix.audio.mp3`'s and `unmix.audio.vorbis`'s. Unless told otherwise all formats are fed the same 16-bit
samples: every player opens them, and their rounding (98 dB below full scale) is far below what any separation model
gets wrong. Samples beyond full scale are clamped and counted, never rescaled: a stem keeps its level in the song.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from unmix.audio.ear import Ear, Heard
from unmix.audio.formats import LOSSY
from unmix.audio.mp3 import Mp3Encoder
from unmix.audio.ogg_pages import Renumbered
from unmix.audio.peaks import Peaks
from unmix.audio.resampling import Resampler
from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.audio.tagging import comments_of, id3_of, tag
from unmix.audio.tags import NO_TAGS, Tags
from unmix.audio.vorbis import VorbisEncoder
from unmix.errors import EngineError

#: LAME's quality of mp3 stems; docs/engine.md has the figures that chose it.
MP3_QUALITY: Final = 5

#: Samples that are encoded at once: every stem has a thread, each of which keeps the memory that it ever had.
_PIECE_SAMPLES: Final = 1 << 16

#: FFmpeg's codec of every format and number of bits that is written with it, and what samples it takes.
_CODECS: Final = {
    ("wav", 16): ("pcm_s16le", "s16"),
    ("wav", 24): ("pcm_s24le", "s32"),
    ("wav", 32): ("pcm_f32le", "flt"),
    ("flac", 16): ("flac", "s16"),
    ("flac", 24): ("flac", "s32"),
    ("m4a", 16): ("aac", "fltp"),
    ("opus", 16): ("libopus", "flt"),
}
#: What samples of so many bits are to FFmpeg.
_SAMPLE_FORMATS: Final = {16: "s16", 24: "s32", 32: "flt"}
#: FFmpeg's muxers where they have not the name of the format. Its own for m4a, `ipod`, takes no cover through PyAV.
_MUXERS: Final = {"m4a": "mp4"}
#: What muxers are told: a wav of more than 4 GiB stays readable, an m4a counts its length in samples and not in ms, and
#: nothing drawn at random is written.
_MUXING: Final = {
    "wav": {"rf64": "auto"},
    "m4a": {"brand": "M4A ", "movie_timescale": str(SAMPLE_RATE), "fflags": "+bitexact"},
    "opus": {"fflags": "+bitexact"},
}
#: The highest rate that Opus knows, in Hz; it does not know that of the stems.
_OPUS_RATE: Final = 48_000


class StemWriter:
    """Encode one stem into `path` while it is being made; the decoded file has exactly the samples written.

    Of the exceptions an m4a says the exact length, but FFmpeg gives its last frame as a whole, and Opus has another
    rate, with as many samples as last as long, rounded up. `bits` are those of `unmix.audio.formats`.
    `bitrate_kbps` is of lossy formats, `mp3_quality` (LAME's: 0 takes longest, 9 is the worst) an mp3's. `rate` is
    what is written at, as wav or flac, in Hz. `start` is where in the song the first sample lies. `listens` is off for
    what will be written once more, or has been heard before. `tags` are those of the stem.

    Raises:
        EngineError: `write_failed`: the file cannot be written, say because the disk is full.
    """

    def __init__(
        self,
        path: Path,
        *,
        format: str,
        bits: int = 16,
        bitrate_kbps: int = 256,
        mp3_quality: int = MP3_QUALITY,
        rate: int = SAMPLE_RATE,
        start: int = 0,
        listens: bool = True,
        tags: Tags = NO_TAGS,
    ) -> None:
        self.path = path
        self.samples = 0
        self.clipped = 0  # samples, of either channel, that were beyond full scale
        self._bits = bits
        self._peaks = Peaks(start)
        self._ear = Ear() if listens else None
        self._open = ExitStack()
        with write_errors(path):
            file = self._open.enter_context(path.open("wb"))
            self._encoder: _Encoder
            if format == "mp3":
                file.write(id3_of(tags))
                self._encoder = Mp3Encoder(file, bitrate_kbps=bitrate_kbps, quality=mp3_quality)
            elif format == "ogg":
                vorbis = VorbisEncoder(file, bitrate_kbps=bitrate_kbps, comments=comments_of(tags))
                self._encoder = self._open.enter_context(closing(vorbis))
            else:
                into = Renumbered(file) if format == "opus" else file
                opened = av.open(into, "w", format=_MUXERS.get(format, format), options=_MUXING.get(format, {}))
                output = self._open.enter_context(opened)
                encoder = _OpusEncoder if format == "opus" else _FFmpegEncoder
                kbps = bitrate_kbps if format in LOSSY else None
                self._encoder = encoder(output, *_CODECS[format, bits], _SAMPLE_FORMATS[bits], kbps, rate)
                tag(output, tags, format)

    def write(self, samples: Samples) -> None:
        """Append `samples`: float32 (2, time) at the rate of the stem, full scale ±1."""
        if self._bits == 32:
            self.write_pcm(samples, clipped=0)
            return
        full_scale = 1 << self._bits - 1
        scaled = np.rint(samples * np.float32(full_scale))
        clamped = scaled.clip(-full_scale, full_scale - 1)
        pcm = clamped.astype(np.int16) if self._bits == 16 else clamped.astype(np.int32) << 8
        self.write_pcm(pcm, clipped=int((scaled != clamped).sum()))

    def write_pcm(self, pcm: NDArray[Any], *, clipped: int) -> None:
        """Append `pcm` (2, time), of which `clipped` samples were clamped.

        It is what the encoder takes: int16, 24 bits as the highest of int32, or float32.
        """
        if not pcm.shape[1]:
            return
        self.clipped += clipped
        self.samples += pcm.shape[1]
        with write_errors(self.path):
            for first in range(0, pcm.shape[1], _PIECE_SAMPLES):
                piece = pcm[:, first : first + _PIECE_SAMPLES]
                self._peaks.add(piece)
                if self._ear:
                    self._ear.add(piece)
                self._encoder.write(piece)

    @property
    def peaks(self) -> list[int]:
        """The peaks of what was written: see `unmix.audio.peaks`."""
        return self._peaks.values

    def heard(self) -> Heard:
        """Return what was heard in what was written: see `unmix.audio.ear`. Nothing can be written afterwards."""
        return self._ear.heard() if self._ear else Heard.nothing()

    def close(self) -> None:
        """Finish the file."""
        with write_errors(self.path):
            self._encoder.finish()
            self._open.close()

    def discard(self) -> None:
        """Close and remove the file; for a separation that failed."""
        with suppress(OSError, av.error.FFmpegError):  # the disk may be what failed
            self._open.close()
        self.path.unlink(missing_ok=True)


class Writer(Protocol):
    """What a stem is written with: `StemWriter`, or one in another process."""

    path: Path
    samples: int
    clipped: int

    @property
    def peaks(self) -> list[int]:
        """See `StemWriter`; known once it is closed."""

    def heard(self) -> Heard:
        """See `StemWriter`; known once it is closed."""

    def write(self, samples: Samples) -> None:
        """See `StemWriter`."""

    def write_pcm(self, pcm: NDArray[Any], *, clipped: int) -> None:
        """See `StemWriter`."""

    def close(self) -> None:
        """See `StemWriter`."""

    def discard(self) -> None:
        """See `StemWriter`."""


@contextmanager
def stem_writers(
    stems: Mapping[str, Path], open_writer: Callable[..., Writer], tags: Tags, **options: Any
) -> Iterator[list[Writer]]:
    """Open a writer for every stem, of a song with these tags; give the files their names at the end, or leave none."""
    writers: list[Writer] = []
    try:
        for stem, path in stems.items():
            with write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            writers.append(open_writer(part, tags=tags.of_stem(stem), **options))
        yield writers
        for writer in writers:
            writer.close()
        for writer, path in zip(writers, stems.values(), strict=True):
            with write_errors(path):
                writer.path.replace(path)
    except BaseException:  # an interrupted separation must not leave parts of stems either
        for writer in writers:
            writer.discard()
        raise


class _Encoder(Protocol):
    def write(self, pcm: NDArray[Any]) -> None:
        """Append `pcm`: (2, time) at the rate of the stem, of the type that was asked for."""

    def finish(self) -> None:
        """Write what is still missing; nothing is closed."""


class _FFmpegEncoder:
    """Encode into an opened file with a codec that takes samples as `taken`; they come as `given`, at `rate`."""

    own_rate: int | None = None  # of the codec, if that is always the same

    def __init__(self, output: Any, codec: str, taken: str, given: str, bitrate_kbps: int | None, rate: int) -> None:
        self._output = output
        self._given = given
        self._given_rate = rate
        self.rate = self.own_rate or rate
        self._stream = output.add_stream(codec, rate=self.rate, layout="stereo")
        self._stream.codec_context.format = taken
        if bitrate_kbps is not None:
            self._stream.codec_context.bit_rate = 1000 * bitrate_kbps
        self._samples = 0

    def write(self, pcm: NDArray[Any]) -> None:
        self._encode(self._frame(pcm))

    def finish(self) -> None:
        self._output.mux(self._stream.encode(None))

    def _frame(self, pcm: NDArray[Any]) -> Any:
        interleaved = np.ascontiguousarray(pcm.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format=self._given, layout="stereo")
        frame.sample_rate = self._given_rate
        return frame

    def _encode(self, frame: Any) -> None:
        frame.time_base = Fraction(1, self.rate)
        frame.pts = self._samples
        self._samples += frame.samples
        self._output.mux(self._stream.encode(frame))


class _OpusEncoder(_FFmpegEncoder):
    """Encode what is resampled before: the codec does not know the rate of stems."""

    own_rate = _OPUS_RATE
    _resampler: Resampler | None = None

    def write(self, pcm: NDArray[Any]) -> None:
        frame = self._frame(pcm)
        self._resampler = self._resampler or Resampler(frame, self.rate)
        self._encode_all(self._resampler.push(frame))

    def finish(self) -> None:
        if self._resampler:
            self._encode_all(self._resampler.end())
        super().finish()

    def _encode_all(self, resampled: Iterator[Samples]) -> None:
        for samples in resampled:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
            frame.sample_rate = self.rate
            self._encode(frame)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into the error that callers know."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        raise EngineError(f"cannot write {path.name}: {error}", code="write_failed", retryable=True) from error
