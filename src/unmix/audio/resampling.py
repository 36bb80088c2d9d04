"""Decoded frames of one form as stereo at 44.1 kHz or another rate, with FFmpeg's filters through PyAV.

Owns what becomes of rates and channels: the resampler's filter, which was chosen by measurement (docs/engine.md), and
the length, which is exactly that of the song. One channel is on both sides and two are left and right, whatever places
the file gives them; more are mixed down as FFmpeg does, without clipping. `unmix.audio.decoding` brings the frames, and
`unmix.audio.encode` those of stems whose format has a rate of its own;
`unmix.audio.delivery` has stems resampled to the rate of their song.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import av
import av.error
import numpy as np
from av.filter import Graph

from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.errors import AudioError

#: Taps of the filter at the lower of both rates, and where it begins to fall, as a part of half that rate.
_FILTER_SIZE: Final = 128
_CUTOFF: Final = 0.96


class Resampler:
    """Takes frames that are like `first`, which has to be pushed too, and gives samples at `rate`.

    Raises:
        AudioError: nobody knows where the frames' channels belong (`bad_channels`), or their samples are not finite
            (`bad_samples`).
    """

    def __init__(self, first: Any, rate: int = SAMPLE_RATE) -> None:
        self._form = _form(first)
        self._from: int = first.sample_rate
        self._to = rate
        self._given = self._made = 0
        self._graph = None if self._form == ("fltp", "stereo", rate) else _graph(first, rate)

    def fits(self, frame: Any) -> bool:
        """Tell whether `frame` is like the first."""
        return _form(frame) == self._form

    def push(self, frame: Any) -> Iterator[Samples]:
        """Yield what comes out when `frame` is added, as float32 (2, time)."""
        self._given += frame.samples
        yield from self._stereo(self._through(frame))

    def end(self) -> Iterator[Samples]:
        """Yield what is left, so that as much came out in all as lasts as long as what went in, rounded up."""
        if self._graph is None:
            return
        if self._from != self._to:
            # Unless silence follows, the filter gives back less than it got, of a song shorter than itself nothing.
            yield from self._stereo(self._through(self._silence()))
        yield from self._stereo(self._through(None))

    def _through(self, frame: Any) -> Iterator[Any]:
        if self._graph is None:
            yield frame
            return
        self._graph.push(frame)
        while True:
            try:
                yield self._graph.pull()
            except (EOFError, av.error.BlockingIOError):  # there is no more, or no more yet
                return

    def _stereo(self, frames: Iterator[Any]) -> Iterator[Samples]:
        for frame in frames:
            samples: Samples = frame.to_ndarray()[:, : -(-self._given * self._to // self._from) - self._made]
            if not samples.shape[1]:
                continue
            if not np.isfinite(samples).all():
                raise AudioError("the file holds samples that are not finite", code="bad_samples")
            self._made += samples.shape[1]
            # A mono song is doubled here: FFmpeg would lower it by 3 dB.
            yield np.repeat(samples, 2, axis=0) if samples.shape[0] == 1 else samples

    def _silence(self) -> Any:
        """Return a frame like the first that is as long as the filter, and silent."""
        return _silent(self._form, int(_FILTER_SIZE * max(1.0, self._from / (_CUTOFF * self._to))) + 2)


def resampled(chunks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Yield at `rate` what comes at `SAMPLE_RATE`, as much as lasts as long, rounded up; both (2, time) in chunks."""
    resampler: Resampler | None = None
    for chunk in chunks:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk), format="fltp", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        resampler = resampler or Resampler(frame, rate)
        yield from resampler.push(frame)
    if resampler is not None:
        yield from resampler.end()


def silence(like: Any, samples: int) -> Any:
    """Return a frame like another one, of so many samples, and silent."""
    return _silent(_form(like), samples)


def front_db(layout: str) -> float:
    """Return how loud the mix of these channels has what is in front on the left, 0 where that is in none."""
    frame = _silent(("fltp", layout, SAMPLE_RATE), _FILTER_SIZE)
    left = frame.planes[0]
    left.update(np.ones(left.buffer_size // 4, np.float32).tobytes())
    graph = _graph(frame, SAMPLE_RATE)
    graph.push(frame)
    graph.push(None)
    level = float(graph.pull().to_ndarray()[0, 0])
    return 20 * math.log10(level) if level > 0 else 0.0


def _silent(form: tuple[str, str, int], samples: int) -> Any:
    format, layout, rate = form
    frame = av.AudioFrame(format=format, layout=layout, samples=samples)
    frame.sample_rate = rate
    planes = frame.layout.nb_channels if frame.format.is_planar else 1
    for plane in frame.planes[:planes]:  # of eight channels PyAV lists more, which lead anywhere
        plane.update((b"\x80" if format.startswith("u8") else b"\0") * plane.buffer_size)
    return frame


def _form(frame: Any) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _graph(first: Any, rate: int) -> Graph:
    """Return filters from frames like `first` to planar float32 at `rate`, of one channel or two."""
    channels = first.layout.nb_channels
    layout = "mono" if channels == 1 else "stereo"
    graph = Graph()
    arguments = {"sample_fmt": first.format.name, "channel_layout": first.layout.name}
    filters = [graph.add("abuffer", sample_rate=str(first.sample_rate), **arguments)]
    if channels == 2 and first.layout.name != layout:
        # FFmpeg would mix by the places that the file names, and drop one that is of no use in stereo.
        filters.append(graph.add("channelmap", map="0|1", channel_layout=layout))
    # `rematrix_maxval` scales a mix of many channels so that it cannot clip, as FFmpeg does for integer samples.
    resample = {"rematrix_maxval": "1", "filter_size": str(_FILTER_SIZE), "cutoff": str(_CUTOFF)}
    filters.append(graph.add("aresample", **resample))
    filters.append(graph.add("aformat", sample_fmts="fltp", sample_rates=str(rate), channel_layouts=layout))
    filters.append(graph.add("abuffersink"))
    try:
        graph.link_nodes(*filters).configure()
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise AudioError("the meaning of the file's channels is not known", code="bad_channels") from error
    return graph
