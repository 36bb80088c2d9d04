"""STEM.MP4: the stems of a song in one file for DJs, beside the mix of them, as Native Instruments defined it.

An MP4 with five tracks of sound: the mixdown, which every player plays, and four stems, which other players leave
alone. The box `stem` in `moov/udta` has their names and colours, as JSON. Here all are ALAC, so that the stems add up
to the mixdown, sample by sample. FFmpeg writes the tracks but knows no such box, which is added at the end, where
`moov` lies. `unmix.audio.delivery` asks for it.
"""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import numpy as np
from numpy.typing import NDArray

from unmix.audio.formats import STEM_MP4
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import SongReader
from unmix.audio.tagging import tag
from unmix.audio.tags import Tags

#: Of each stem, in the order of the tracks: those that the makers of the format use.
_COLOURS: Final = ("#009E73", "#D55E00", "#CC79A7", "#56B4E9")
#: What players do to the sum of the stems, if they can: nothing. The figures have to be there all the same.
_MASTERING: Final = {
    "compressor": {
        **{"enabled": False, "ratio": 3, "output_gain": 0.5, "release": 0.3, "attack": 0.003, "input_gain": 0.5},
        **{"threshold": 0, "hp_cutoff": 300, "dry_wet": 50},
    },
    "limiter": {"enabled": False, "release": 0.05, "threshold": 0, "ceiling": -0.35},
}
#: Times are counted in samples, and nothing that is drawn at random is written.
_MUXING: Final = {"movie_timescale": str(SAMPLE_RATE), "fflags": "+bitexact"}


def write_stem_mp4(path: Path, stems: Mapping[str, Path], go_on: Callable[[], None], tags: Tags) -> int:
    """Write four stems, FLACs of 16 bits and one length, and their sum as one file, with the song's tags.

    Returns how many samples of the sum were beyond full scale and clamped. What is read is held in memory a second or
    two at a time.
    """
    clipped = 0
    with path.open("w+b") as file:
        with av.open(file, "w", format="mp4", options=_MUXING) as output:
            tracks = [_Track(output) for _ in range(1 + len(stems))]
            tag(output, tags, STEM_MP4)
            for chunks in zip(*map(SongReader, stems.values()), strict=True):
                go_on()
                pcm = [np.rint(chunk * 32_768).astype(np.int32) for chunk in chunks]
                total = np.sum(pcm, axis=0)
                mixdown = total.clip(-32_768, 32_767)
                clipped += int((mixdown != total).sum())
                for track, samples in zip(tracks, (mixdown, *pcm), strict=True):
                    track.write(samples.astype(np.int16))
            for track in tracks:
                track.finish()
        _add_to_moov(file, _stem_box(stems))
    return clipped


class _Track:
    """One track of an opened file."""

    def __init__(self, output: Any) -> None:
        self._output = output
        self._stream = output.add_stream("alac", rate=SAMPLE_RATE, layout="stereo")
        self._stream.codec_context.format = "s16p"
        self._samples = 0

    def write(self, pcm: NDArray[np.int16]) -> None:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm), format="s16p", layout="stereo")
        frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), self._samples
        self._samples += frame.samples
        self._output.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._output.mux(self._stream.encode(None))


def _stem_box(stems: Mapping[str, Path]) -> bytes:
    named = [{"name": stem.capitalize(), "color": colour} for stem, colour in zip(stems, _COLOURS, strict=True)]
    told = {"mastering_dsp": _MASTERING, "version": 1, "stems": named}
    return _box(b"stem", json.dumps(told, separators=(",", ":")).encode())


def _add_to_moov(file: BinaryIO, box: bytes) -> None:
    """Add a box to `moov/udta` of an MP4 that ends with `moov`, so that nothing that it points at moves."""
    start = 0
    while True:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        if name == b"moov":
            break
        start += struct.unpack(">Q", file.read(8))[0] if size == 1 else size
    children = list(_children(file.read(size - 8)))
    udta = b"".join(content for name, content in children if name == b"udta")
    others = b"".join(_box(name, content) for name, content in children if name != b"udta")
    file.seek(start)
    file.write(_box(b"moov", others + _box(b"udta", udta + box)))


def _children(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the boxes in another one."""
    start = 0
    while start < len(content):
        size, name = struct.unpack_from(">I4s", content, start)
        yield name, content[start + 8 : start + size]
        start += size


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content
