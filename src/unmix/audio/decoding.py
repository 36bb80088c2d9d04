"""One pass over an open song, with FFmpeg through PyAV: packets to frames to stereo at 44.1 kHz.

Owns decoding and the rules for damaged files: broken packets are skipped and counted, silence stands for what is lost
with them, and a song that is mostly noise is refused at its end. How a file is opened is `unmix.audio.opening`'s, how
often `unmix.audio.song_reader`'s.
"""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import av
import av.error
import numpy as np

from unmix.audio.mpeg import promised_seconds
from unmix.audio.ogg import is_cut_off
from unmix.audio.opening import BARE_FRAMES, Opened, check_channels, check_sample_rate, open_part, parts_of
from unmix.audio.places import Places
from unmix.audio.resampling import Resampler, front_db, silence
from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.audio.sniff import read_wav_header
from unmix.errors import AudioError
from unmix.words import counted, were

#: Containers of which FFmpeg reads the length from the header; for others it makes an estimate.
_STATE_THEIR_LENGTH: Final = ("flac", "mp4", "matroska", "flv", "aiff", "w64", "caf", "au", "tta", "wv")
#: How long a stream of Matroska is, in hours, minutes and seconds.
_MATROSKA_DURATION: Final = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)$")
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
        self._container = container
        self._parts = parts_of(file, container)
        self._opened = open_part(self._parts[0], container)
        codec = self._opened.stream.codec_context
        self.codec = codec.name
        self.sample_rate = codec.sample_rate
        self.channels = codec.channels
        self._streams = len(self._opened.container.streams.audio)
        self._good_packets = 0
        self._broken_packets = 0
        self._lost_seconds = 0.0
        self._notes: dict[str, None] = {}
        self._samples_of_rate: dict[int, int] = {}  # in Hz: how many samples per channel came at each
        self._promised_seconds = _promised_seconds(file, container, self._opened)
        self._is_cut_off = container == "ogg" and is_cut_off(file)

    def chunks(self) -> Iterator[Samples]:
        """Yield the whole song as float32 (2, time) at `SAMPLE_RATE`."""
        return _joined(self._converted_frames())

    def warnings(self, samples: int) -> tuple[str, ...]:
        """Return what is wrong with the song, or refuse what was mostly noise; call after the last chunk.

        `samples` were decoded, per channel.
        """
        seconds = samples / SAMPLE_RATE
        if not samples and not self._broken_packets:
            raise AudioError("the file holds no audio frames", code="no_audio_frames")
        heard_seconds = seconds - self._lost_seconds
        if self._broken_packets and (heard_seconds < _MIN_DAMAGED_SECONDS or self._broken_packets > self._good_packets):
            raise AudioError("the file is too damaged to decode", code="undecodable")
        warnings = []
        if self._broken_packets:
            lost = f", and {1000 * self._lost_seconds:.0f} ms of the song are silent" if self._lost_seconds else ""
            count = self._broken_packets
            warnings.append(f"{counted(count, 'broken frame')} {were(count)} skipped{lost}")
        if self._promised_seconds - seconds > _MAX_MISSING_SECONDS:
            warnings.append(f"the file ends early: {seconds:.1f} s of {self._promised_seconds:.1f} s")
        elif self._is_cut_off:
            warnings.append("the file ends early: it was cut off in the middle")
        if self._streams > 1:
            warnings.append(f"only the first of {self._streams} audio streams was read")
        return tuple(warnings)

    def notes(self) -> tuple[str, ...]:
        """Return what was done to the song and is as it should be; call after the last chunk."""
        return tuple(self._notes)

    def own(self, samples: int) -> tuple[int, int]:
        """Return the rate of the song's frames in Hz, and how many samples it has in that; call after the last chunk.

        `samples` were decoded, per channel. What the file says of its rate may be another one, as that of HE-AAC is. Of
        a song that was glued of several rates it is that of most of it, and it has as many samples as last as long,
        rounded up. Not the first one: FFmpeg may take the first frame for one of what follows.
        """
        rate = max(self._samples_of_rate, key=self._samples_of_rate.__getitem__)
        is_glued = len(self._samples_of_rate) > 1
        return rate, -(-samples * rate // SAMPLE_RATE) if is_glued else self._samples_of_rate[rate]

    def close(self) -> None:
        """Free what FFmpeg holds."""
        self._opened.close()

    def _converted_frames(self) -> Iterator[Samples]:
        """Yield the song frame by frame."""
        resampler: Resampler | None = None
        for frame in self._frames():
            if resampler is None or not resampler.fits(frame):  # later frames may differ in songs that were glued
                if resampler is not None:
                    yield from resampler.end()
                check_sample_rate(frame.sample_rate, self._container)
                check_channels(frame.layout.nb_channels)
                resampler = Resampler(frame)
                self._note(frame)
            self._samples_of_rate[frame.sample_rate] = self._samples_of_rate.get(frame.sample_rate, 0) + frame.samples
            yield from resampler.push(frame)
        if resampler is not None:
            yield from resampler.end()

    def _note(self, frame: Any) -> None:
        if frame.sample_rate != SAMPLE_RATE:
            self._notes[f"resampled from {frame.sample_rate} Hz to {SAMPLE_RATE} Hz"] = None
        if frame.layout.nb_channels > 2:
            db = front_db(frame.layout.name)
            lower = f", {-db:.1f} dB quieter so that nothing clips" if db else ""
            self._notes[f"mixed down from {frame.layout.nb_channels} channels to stereo{lower}"] = None

    def _frames(self) -> Iterator[Any]:
        """Yield the decoded frames of all parts."""
        yield from self._frames_of(self._opened)
        for part in self._parts[1:]:
            self._opened.close()
            try:
                self._opened = open_part(part, self._container)
            except AudioError:  # in a chain one link may be damaged beyond use
                self._broken_packets += 1
                continue
            yield from self._frames_of(self._opened)

    def _frames_of(self, opened: Opened) -> Iterator[Any]:
        """Yield the decoded frames of one part, going on after broken packets as players do."""
        packets = opened.container.demux(opened.stream)
        places = Places(opened, has_bare_frames=self._container in BARE_FRAMES)
        is_first = True
        zeros = 0
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
                # Zeros are no frame, unless frames follow: then they stand where some were.
                is_empty = not bytes(packet).strip(b"\0")
                zeros += is_empty
                self._broken_packets += not is_empty
                places.damaged()
                continue
            if not frames:
                continue
            self._good_packets += 1
            self._broken_packets += zeros
            zeros = 0
            yield from self._missing(places, packet, frames[0], is_first=is_first)
            is_first = False
            for frame in frames:
                yield from _cut(frame)
            places.read(packet, frames)

    def _missing(self, places: Places, packet: Any, frame: Any, *, is_first: bool) -> Iterator[Any]:
        """Yield silence for what should stand before the first frame of a packet."""
        seconds = places.lost_before(packet, frame)
        self._lost_seconds += seconds
        if is_first and places.late_seconds:
            seconds += places.late_seconds
            self._notes[f"the sound begins {seconds:.3f} s after the picture: until then stems are silent"] = None
        left = round(seconds * frame.sample_rate)
        while left > 0:
            yield silence(frame, min(left, _CHUNK_SAMPLES))
            left -= _CHUNK_SAMPLES


def _promised_seconds(file: BinaryIO, container: str, opened: Opened) -> float:
    """Return how long the song is as its header says; 0 if it says nothing."""
    if container == "mp3":
        return promised_seconds(file)
    if container == "wav":
        wav = read_wav_header(file)
        return wav.seconds if wav else 0.0
    if container not in _STATE_THEIR_LENGTH:
        return 0.0
    if opened.stream.duration:
        return float(opened.stream.duration * opened.stream.time_base)
    if said := _MATROSKA_DURATION.match(opened.stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, said.groups())
        return 3600 * hours + 60 * minutes + seconds
    # A picture may go on after the sound.
    return 0.0 if opened.container.streams.video else (opened.container.duration or 0) / av.time_base


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
