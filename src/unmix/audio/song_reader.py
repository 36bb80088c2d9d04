"""Songs as samples: decode any accepted file to 44.1 kHz stereo, in chunks, with FFmpeg through PyAV.

Owns reading and the rules for damaged files; `unmix.audio.sniff` decides what is opened at all, `unmix.audio.encode`
writes. Imports no torch: the check of an upload and the engine read the very same samples. Lengths are counted, never
taken from a header.
"""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from unmix.audio.formats import SAMPLE_RATE
from unmix.audio.sniff import HEAD_BYTES, has_external_reference, id3_size, is_refused_media, read_wav_header, sniff
from unmix.errors import AudioError

_DEMUXERS: Final = {"mp4": "mov", "matroska": "matroska"}  # the others have the name of their container
_MAX_STREAMS: Final = 16
_MAX_CHANNELS: Final = 32
_MAX_SAMPLE_RATE: Final = 768_000
#: A damaged file with less than this is noise that happens to look like frames.
_MIN_DAMAGED_SECONDS: Final = 1.0
#: A file that lacks more than this of what its header promises gets a warning; encoders' padding is far below.
_MAX_MISSING_SECONDS: Final = 0.5
_CHUNK_SAMPLES: Final = 65_536

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a song turned out to be, known after it was decoded to its end."""

    container: str
    codec: str
    sample_rate: int  # Hz, of the file
    channels: int  # of the file
    samples: int  # per channel, decoded, at `SAMPLE_RATE`
    warnings: tuple[str, ...] = ()

    @property
    def duration_seconds(self) -> float:
        """Length of the song by counted samples."""
        return self.samples / SAMPLE_RATE


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
            self._container = _container_of(file)

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
            _check_header(file, self._container)
            samples = 0
            with closing(_Decoding(file, self._container)) as decoding:
                for chunk in _joined(decoding.chunks()):
                    samples += chunk.shape[1]
                    if samples > self._max_seconds * SAMPLE_RATE:
                        raise AudioError(f"the song is longer than {self._max_seconds:g} s", code="too_long")
                    yield chunk
                self._info = decoding.info(samples)
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


def measure(song: Path | BinaryIO, *, min_seconds: float = 0.0, max_seconds: float = math.inf) -> AudioInfo:
    """Decode a whole song, keeping nothing, and return what it is.

    Raises:
        AudioError: it cannot be decoded, or is shorter or longer than allowed.
    """
    reader = SongReader(song, min_seconds=min_seconds, max_seconds=max_seconds)
    for _ in reader:
        pass
    return reader.info


def _container_of(file: BinaryIO) -> str:
    head = file.read(HEAD_BYTES)
    tag_size = id3_size(head)
    if tag_size:  # pictures make tags of megabytes: look behind
        file.seek(tag_size)
        container = sniff(file.read(HEAD_BYTES)) or "mp3"
    else:
        container = sniff(head) or ""
    if not container and is_refused_media(head):
        raise AudioError("this kind of media file or playlist is not accepted", code="unsupported_container")
    if not container:
        raise AudioError("the bytes are not audio of a known kind", code="not_audio")
    return container


def _check_header(file: BinaryIO, container: str) -> None:
    """Refuse what FFmpeg would open, or refuse without saying why."""
    if container == "mp4" and has_external_reference(file):
        raise AudioError("the samples of this file lie in another file", code="external_reference")
    if container == "wav" and (header := read_wav_header(file)) and not 0 < header.sample_rate <= _MAX_SAMPLE_RATE:
        raise AudioError(f"a sample rate of {header.sample_rate} Hz", code="bad_sample_rate")


def _joined(chunks: Iterator[Samples]) -> Iterator[Samples]:
    """Join the frames of a codec, about a thousand samples each, to chunks that are worth a call."""
    pending: list[Samples] = []
    length = 0
    for chunk in chunks:
        pending.append(chunk)
        length += chunk.shape[1]
        if length >= _CHUNK_SAMPLES:
            yield np.concatenate(pending, axis=1)
            pending, length = [], 0
    if pending:
        yield np.concatenate(pending, axis=1)


class _Decoding:
    """One pass over an open file: packets to frames to stereo at `SAMPLE_RATE`, broken packets skipped and counted."""

    def __init__(self, file: BinaryIO, container: str) -> None:
        self._container = container
        wav = read_wav_header(file) if container == "wav" else None
        states_its_length = _states_its_length(file, container)
        demuxer = _DEMUXERS.get(container, container)
        file.seek(0)
        try:
            # The demuxer is forced and nothing else may be opened: no probing, no playlist, no protocol.
            options = {"protocol_whitelist": "none", "format_whitelist": demuxer}
            opened: Any = av.open(file, format=demuxer, options=options, metadata_errors="replace")
        except (av.error.FFmpegError, ValueError) as error:
            code = "no_audio_frames" if container in ("mp3", "aac") else "undecodable"
            raise AudioError(f"the {container} file cannot be opened", code=code) from error
        self._input = opened
        if len(self._input.streams) > _MAX_STREAMS:
            raise AudioError(f"the file has {len(self._input.streams)} streams", code="too_many_streams")
        if not self._input.streams.audio:
            raise AudioError("the file has no audio", code="no_audio_frames")
        self._stream: Any = self._input.streams.audio[0]
        codec = self._stream.codec_context
        if codec is None:
            raise AudioError("the file's audio codec is not known", code="undecodable")
        if not codec.sample_rate:  # no frame was found that would tell it
            raise AudioError("the file holds no audio frames", code="no_audio_frames")
        if codec.sample_rate > _MAX_SAMPLE_RATE:
            raise AudioError(f"a sample rate of {codec.sample_rate} Hz", code="bad_sample_rate")
        if not 0 < codec.channels <= _MAX_CHANNELS:
            raise AudioError(f"{codec.channels or 'an impossible number of'} channels", code="bad_channels")
        self._codec: str = codec.name
        self._sample_rate: int = codec.sample_rate
        self._channels: int = codec.channels
        self._good_packets = 0
        self._broken_packets = 0
        self._promised_seconds = wav.seconds if wav else 0.0
        if states_its_length:
            self._promised_seconds = (self._input.duration or 0) / av.time_base

    def chunks(self) -> Iterator[Samples]:
        """Yield the whole song as float32 (2, time) at `SAMPLE_RATE`."""
        setup: tuple[str, str, int] | None = None
        resampler: Any = None
        for frame in self._frames():
            found = (frame.format.name, frame.layout.name, frame.sample_rate)
            if found != setup:  # the first frame; later ones may differ too, in songs that were glued together
                if resampler is not None:
                    yield from _converted(resampler, None)
                setup, resampler = found, _resampler(frame.layout.nb_channels)
            yield from _converted(resampler, frame)
        if resampler is not None:
            yield from _converted(resampler, None)

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self._input.close()

    def info(self, samples: int) -> AudioInfo:
        """Return what was decoded, or refuse what was mostly noise; call after the last chunk."""
        seconds = samples / SAMPLE_RATE
        if not samples and not self._broken_packets:
            raise AudioError("the file holds no audio frames", code="no_audio_frames")
        if self._broken_packets and (seconds < _MIN_DAMAGED_SECONDS or self._broken_packets > self._good_packets):
            raise AudioError("the file is too damaged to decode", code="undecodable")
        warnings = []
        if self._broken_packets:
            warnings.append(f"{self._broken_packets} broken frames were skipped")
        if self._promised_seconds - seconds > _MAX_MISSING_SECONDS:
            warnings.append(f"the file ends early: {seconds:.1f} s of {self._promised_seconds:.1f} s")
        if self._sample_rate != SAMPLE_RATE:
            warnings.append(f"resampled from {self._sample_rate} Hz to {SAMPLE_RATE} Hz")
        if self._channels > 2:
            warnings.append(f"mixed down from {self._channels} channels to stereo")
        if len(self._input.streams.audio) > 1:
            warnings.append(f"only the first of {len(self._input.streams.audio)} audio streams was read")
        return AudioInfo(self._container, self._codec, self._sample_rate, self._channels, samples, tuple(warnings))

    def _frames(self) -> Iterator[Any]:
        """Yield the decoded frames, going on after broken packets as players do."""
        packets = self._input.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:  # the container itself breaks off here
                self._broken_packets += 1
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self._broken_packets += 1
                continue
            self._good_packets += bool(frames)
            yield from frames


def _resampler(channels: int) -> Any:
    # `rematrix_maxval` scales a mix of many channels so that it cannot clip, as FFmpeg does for integer samples.
    layout = "mono" if channels == 1 else "stereo"
    return av.AudioResampler(format="fltp", layout=layout, rate=SAMPLE_RATE, options={"rematrix_maxval": "1"})


def _converted(resampler: Any, frame: Any) -> Iterator[Samples]:
    """Yield what comes out for one frame, or at last for None, as float32 (2, time)."""
    try:
        converted = resampler.resample(frame)
    except av.error.FFmpegError as error:
        raise AudioError("the meaning of the file's channels is not known", code="bad_channels") from error
    for out in converted:
        samples: Samples = out.to_ndarray()
        if not np.isfinite(samples).all():
            raise AudioError("the file holds samples that are not finite", code="bad_samples")
        # A mono song is doubled here: FFmpeg would lower it by 3 dB.
        yield np.repeat(samples, 2, axis=0) if samples.shape[0] == 1 else samples


def _states_its_length(file: BinaryIO, container: str) -> bool:
    """Tell whether FFmpeg will read the length from the header; for other files it makes an estimate."""
    if container != "mp3":
        return container in ("flac", "mp4", "matroska", "aiff", "w64")
    file.seek(0)
    file.seek(id3_size(file.read(10)))
    first_frame = file.read(1_500)
    return any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))
