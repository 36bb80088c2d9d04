"""Stems as files: write samples piece by piece as mp3, wav or flac, with FFmpeg through PyAV.

Owns encoding and nothing of where files go: the engine separates into a `StemWriter` per stem. All three formats are
fed the same 16-bit samples: every player opens them, and their rounding (98 dB below full scale) is far below what
any separation model gets wrong. Samples beyond full scale are clamped and counted, never rescaled: a stem keeps its
level in the song.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from unmix.errors import EngineError

#: Hz of every stem.
_SAMPLE_RATE: Final = 44_100
_FULL_SCALE: Final = 32_768

#: FFmpeg's muxer, codec and sample format of every format on offer.
_CODECS: Final = {
    "mp3": ("mp3", "libmp3lame", "s16p"),
    "wav": ("wav", "pcm_s16le", "s16"),
    "flac": ("flac", "flac", "s16"),
}
FORMATS: Final = tuple(_CODECS)


class StemWriter:
    """Encode one stem into `path` while it is being made; the decoded file has exactly the samples written.

    The one exception: an mp3 of 1 to 46 samples (a millisecond) decodes to 47, since decoders want two frames.

    Raises:
        EngineError: `write_failed`: the file cannot be written, say because the disk is full.
    """

    def __init__(self, path: Path, *, format: str, bitrate_kbps: int = 192) -> None:
        muxer, codec, self._sample_format = _CODECS[format]
        self.path = path
        self._format = format
        self.samples = 0
        self.clipped = 0  # samples, of either channel, that were beyond full scale
        self._packets = 0
        options = {"rf64": "auto"} if format == "wav" else {}  # a wav of more than 4 GiB stays readable
        with write_errors(path):
            self._file = path.open("wb")
            self._output: Any = av.open(self._file, "w", format=muxer, options=options)
            stream: Any = self._output.add_stream(codec, rate=_SAMPLE_RATE, layout="stereo")
            stream.codec_context.format = self._sample_format
            if format == "mp3":
                stream.codec_context.bit_rate = bitrate_kbps * 1000
            self._stream: Any = stream

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append `samples`: float32 (2, time) at 44.1 kHz, full scale ±1."""
        if not samples.shape[1]:
            return
        scaled = np.rint(samples * np.float32(_FULL_SCALE))
        clamped = scaled.clip(-_FULL_SCALE, _FULL_SCALE - 1)
        self.clipped += int((scaled != clamped).sum())
        pcm = clamped.astype(np.int16)
        if not self._sample_format.endswith("p"):  # interleaved: (1, 2 · time)
            pcm = pcm.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm), format=self._sample_format, layout="stereo")
        frame.sample_rate = _SAMPLE_RATE
        frame.time_base = Fraction(1, _SAMPLE_RATE)
        frame.pts = self.samples
        self.samples += samples.shape[1]
        self._encode(frame)

    def close(self) -> None:
        """Finish the file."""
        self._encode(None)
        with write_errors(self.path):
            self._output.close()
            self._file.close()

    def discard(self) -> None:
        """Close and remove the file; for a separation that failed."""
        with suppress(OSError, av.error.FFmpegError):  # the disk may be what failed
            self._output.close()
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)

    def _encode(self, frame: Any) -> None:
        with write_errors(self.path):
            for packet in self._stream.encode(frame):
                # LAME ends with a frame of nothing but padding when the last samples fit into the frame before. The
                # Info tag then counts only that frame's padding, and decoders would give up to 46 samples too many.
                if self._format != "mp3" or packet.duration or self._packets < 2:
                    self._packets += 1
                    self._output.mux(packet)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into the error that callers know."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        raise EngineError(f"cannot write {path.name}: {error}", code="write_failed", retryable=True) from error
