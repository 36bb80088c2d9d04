"""One pass over an open song, with FFmpeg through PyAV: packets to frames to stereo at 44.1 kHz.

Owns decoding and the rules for damaged files: broken packets are skipped and counted, and a song that is mostly noise
is refused at its end. What is opened and how often is `unmix.audio.song_reader`'s.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import av
import av.error
import numpy as np

from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.audio.sniff import WavHeader, has_external_reference, id3_size, read_wav_header
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
#: Six minutes of a CD in one piece, which nobody writes; what is decoded from one may take four times its memory.
_MAX_PACKET_BYTES: Final = 64 << 20


class Decoding:
    """One pass over an open file, which is a song in `container` as far as its first bytes tell.

    Raises:
        AudioError: on construction and while decoding; the code says why.
    """

    codec: str
    sample_rate: int  # Hz, of the file
    channels: int  # of the file

    def __init__(self, file: BinaryIO, container: str) -> None:
        wav = read_wav_header(file) if container == "wav" else None
        _check_header(file, container, wav)
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
        self.codec = codec.name
        self.sample_rate = codec.sample_rate
        self.channels = codec.channels
        self._good_packets = 0
        self._broken_packets = 0
        self._promised_seconds = wav.seconds if wav else 0.0
        if states_its_length:
            self._promised_seconds = (self._input.duration or 0) / av.time_base

    def chunks(self) -> Iterator[Samples]:
        """Yield the whole song as float32 (2, time) at `SAMPLE_RATE`."""
        return _joined(self._converted_frames())

    def warnings(self, samples: int) -> tuple[str, ...]:
        """Return what is worth knowing of the song, or refuse what was mostly noise; call after the last chunk.

        `samples` were decoded, per channel.
        """
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
        if self.sample_rate != SAMPLE_RATE:
            warnings.append(f"resampled from {self.sample_rate} Hz to {SAMPLE_RATE} Hz")
        if self.channels > 2:
            warnings.append(f"mixed down from {self.channels} channels to stereo")
        if len(self._input.streams.audio) > 1:
            warnings.append(f"only the first of {len(self._input.streams.audio)} audio streams was read")
        return tuple(warnings)

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self._input.close()

    def _converted_frames(self) -> Iterator[Samples]:
        """Yield the song frame by frame."""
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

    def _frames(self) -> Iterator[Any]:
        """Yield the decoded frames, going on after broken packets as players do."""
        packets = self._input.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.MemoryError:
                raise
            except av.error.FFmpegError:  # the container itself breaks off here
                self._broken_packets += 1
                return
            if packet.size > _MAX_PACKET_BYTES:
                raise AudioError(f"the file has a block of {packet.size >> 20} MiB", code="undecodable")
            try:
                frames = packet.decode()
            except av.error.MemoryError:  # nothing is wrong with the packet
                raise
            except av.error.FFmpegError:
                self._broken_packets += 1
                continue
            self._good_packets += bool(frames)
            for frame in frames:
                yield from _cut(frame)


def _cut(frame: Any) -> Iterator[Any]:
    """Yield a frame in pieces of no more than `_CHUNK_SAMPLES`: each later step copies what it gets.

    A codec's frame has a few thousand samples, but a block of PCM has as many as its file says.
    """
    if frame.samples <= _CHUNK_SAMPLES:
        yield frame
        return
    per_sample = frame.format.bytes * (1 if frame.format.is_planar else frame.layout.nb_channels)
    planes: list[Any] = [memoryview(plane) for plane in frame.planes]
    for start in range(0, frame.samples, _CHUNK_SAMPLES):
        stop = min(start + _CHUNK_SAMPLES, frame.samples)
        piece = av.AudioFrame(format=frame.format.name, layout=frame.layout, samples=stop - start)
        piece.sample_rate = frame.sample_rate
        for plane, whole in zip(piece.planes, planes, strict=True):
            plane.update(whole[start * per_sample : stop * per_sample])
        yield piece


def _resampler(channels: int) -> Any:
    # `rematrix_maxval` scales a mix of many channels so that it cannot clip, as FFmpeg does for integer samples.
    layout = "mono" if channels == 1 else "stereo"
    return av.AudioResampler(format="fltp", layout=layout, rate=SAMPLE_RATE, options={"rematrix_maxval": "1"})


def _converted(resampler: Any, frame: Any) -> Iterator[Samples]:
    """Yield what comes out for one frame, or at last for None, as float32 (2, time)."""
    try:
        converted = resampler.resample(frame)
    except av.error.MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise AudioError("the meaning of the file's channels is not known", code="bad_channels") from error
    for out in converted:
        samples: Samples = out.to_ndarray()
        if not np.isfinite(samples).all():
            raise AudioError("the file holds samples that are not finite", code="bad_samples")
        # A mono song is doubled here: FFmpeg would lower it by 3 dB.
        yield np.repeat(samples, 2, axis=0) if samples.shape[0] == 1 else samples


def _check_header(file: BinaryIO, container: str, wav: WavHeader | None) -> None:
    """Refuse what FFmpeg would open, or refuse without saying why."""
    if container == "mp4" and has_external_reference(file):
        raise AudioError("the samples of this file lie in another file", code="external_reference")
    if wav and not 0 < wav.sample_rate <= _MAX_SAMPLE_RATE:
        raise AudioError(f"a sample rate of {wav.sample_rate} Hz", code="bad_sample_rate")


def _states_its_length(file: BinaryIO, container: str) -> bool:
    """Tell whether FFmpeg will read the length from the header; for other files it makes an estimate."""
    if container != "mp3":
        return container in ("flac", "mp4", "matroska", "aiff", "w64")
    file.seek(0)
    file.seek(id3_size(file.read(10)))
    first_frame = file.read(1_500)
    return any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))


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
