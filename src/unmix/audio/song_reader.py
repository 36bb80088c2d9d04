"""Songs as samples: read any accepted file as 44.1 kHz stereo, in chunks, as often as wanted.

Owns what a song may be and what is known of it at the end; `unmix.audio.opening` decides what is opened at all,
`unmix.audio.decoding` is one pass over it, `unmix.audio.encode` writes. Imports no torch: the check of an upload and
the engine read the very same samples. Lengths are counted, never taken from a header.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from unmix.audio.decoding import Decoding
from unmix.audio.level import Level
from unmix.audio.opening import container_of
from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.errors import AudioError


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a song turned out to be, known after it was decoded to its end."""

    container: str
    codec: str
    sample_rate: int  # Hz, of the file
    channels: int  # of the file
    samples: int  # per channel, decoded, at `SAMPLE_RATE`
    own_rate: int  # Hz, of what was decoded, before it was resampled
    own_samples: int  # per channel, in that rate
    warnings: tuple[str, ...] = ()  # what is wrong with it
    notes: tuple[str, ...] = ()  # what was done to it and is as it should be

    @property
    def duration_seconds(self) -> float:
        """Length of the song by counted samples."""
        return self.samples / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class MeasuredSong(AudioInfo):
    """The same, and how loud the song is."""

    level: Level = field(kw_only=True)


class Reader(Protocol):
    """See `SongReader`."""

    @property
    def info(self) -> AudioInfo:
        """What was decoded."""

    def __iter__(self) -> Iterator[Samples]: ...


#: Makes the reader of the song at a path; takes `min_seconds` and `max_seconds`, too.
OpenSong = Callable[..., Reader]


class SongReader:
    """Decode one song in chunks; iterate again to decode it again.

    A chunk is float32 (2 channels, time) at `SAMPLE_RATE`; a mono song is on both channels, one with more than two
    is mixed down as FFmpeg does, without clipping. After the last chunk `info` tells what was decoded.

    Raises:
        AudioError: on construction and while iterating; the code says why.
    """

    def __init__(self, song: Path | BinaryIO, *, min_seconds: float = 0.0, max_seconds: float = math.inf) -> None:
        self._song = song
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._info: AudioInfo | None = None
        with self._file() as file:
            self._container = container_of(file)

    @property
    def info(self) -> AudioInfo:
        """What was decoded.

        Raises:
            RuntimeError: the song was not read to its end yet.
        """
        if self._info is None:
            raise RuntimeError("a song is known only after it was decoded to its end")
        return self._info

    def __iter__(self) -> Iterator[Samples]:
        with self._file() as file:
            samples = 0
            with closing(Decoding(file, self._container)) as decoding:
                for chunk in decoding.chunks():
                    samples += chunk.shape[1]
                    if samples > self._max_seconds * SAMPLE_RATE:
                        text = f"the song is longer than the {self._max_seconds:g} s that are taken here"
                        raise AudioError(f"{text} (UNMIX_MAX_SONG_SECONDS)", code="too_long")
                    yield chunk
                warnings = decoding.warnings(samples)
                facts = (decoding.codec, decoding.sample_rate, decoding.channels)
                self._info = AudioInfo(
                    self._container, *facts, samples, *decoding.own(samples), warnings, decoding.notes()
                )
        if samples < self._min_seconds * SAMPLE_RATE:
            raise AudioError(f"the song is shorter than {self._min_seconds:g} s", code="too_short")

    @contextmanager
    def _file(self) -> Iterator[BinaryIO]:
        # Always a Python file: FFmpeg then has nothing to resolve, be it a path that looks like a protocol.
        if isinstance(self._song, Path):
            try:
                file = self._song.open("rb")
            except OSError as error:
                raise AudioError(f"cannot read {self._song.name}: {error.strerror}", code="unreadable") from error
            with file:
                yield file
        else:
            self._song.seek(0)
            yield self._song


def measure(song: Path | BinaryIO, *, min_seconds: float = 0.0, max_seconds: float = math.inf) -> MeasuredSong:
    """Decode a whole song, keeping nothing, and return what it is.

    Raises:
        AudioError: it cannot be decoded, or is shorter or longer than allowed.
    """
    return measured(SongReader(song, min_seconds=min_seconds, max_seconds=max_seconds))


def measured(reader: Reader) -> MeasuredSong:
    """Do the same by a reader.

    Raises:
        AudioError: as it does.
    """
    level, info = Level.of(reader), reader.info
    level = replace(level, own_rate=info.own_rate, own_samples=info.own_samples)
    return MeasuredSong(**asdict(info), level=level)
