"""Audio files of every kind, made by code: good ones with PyAV and soundfile, broken ones byte by byte."""

import struct
import zlib
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from unmix.audio.formats import MEDIA_TYPES, STEM_MP4
from unmix.audio.samples import Samples
from unmix.audio.song_reader import AudioInfo, SongReader, measure
from unmix.errors import AudioError

#: What a stem can be written as.
FORMATS = [format for format in MEDIA_TYPES if format != STEM_MP4]

#: Muxer, codec and sample format of what the tests encode with PyAV.
ENCODINGS = {
    "mp3": ("mp3", "libmp3lame", "fltp"),
    "wav": ("wav", "pcm_s16le", "s16"),
    "flac": ("flac", "flac", "s16"),
    "m4a": ("ipod", "aac", "fltp"),
    "aac": ("adts", "aac", "fltp"),
    "opus": ("ogg", "libopus", "flt"),
    "webm": ("webm", "libopus", "flt"),
    "aiff": ("aiff", "pcm_s16be", "s16"),
    "w64": ("w64", "pcm_s16le", "s16"),
    "caf": ("caf", "pcm_s16be", "s16"),
    "au": ("au", "pcm_s16be", "s16"),
    "tta": ("tta", "tta", "s16"),
    "wv": ("wv", "wavpack", "s16p"),
    "ac3": ("ac3", "ac3", "fltp"),
    "eac3": ("eac3", "eac3", "fltp"),
    "wma": ("asf", "wmav2", "fltp"),
    "avi": ("avi", "ac3", "fltp"),
    "flv": ("flv", "libmp3lame", "fltp"),
    "ts": ("mpegts", "aac", "fltp"),
    "mpg": ("vob", "mp2", "s16"),
}


def music(samples: int, *, channels: int = 2, seed: int = 0, sample_rate: int = 44_100) -> NDArray[np.float32]:
    """Return a sum of decaying chirps with a clear beginning, (channels, samples), at most 0.5 loud."""
    rng = np.random.default_rng(seed)
    song = np.zeros((channels, samples))
    since = np.arange(min(2 * sample_rate, samples)) / sample_rate  # s after an onset; later a chirp is below the noise
    decay = np.exp(-5 * since)
    for onset in np.arange(0.0, max((samples - 1) / sample_rate, 0.01), 0.21):
        begin = round(onset * sample_rate)
        chirp = np.sin(2 * np.pi * (rng.uniform(80, 900) * since + 300 * since**2)) * decay
        song[:, begin : begin + len(chirp)] += (rng.uniform(0.3, 1, (channels, 1)) * chirp)[:, : samples - begin]
    song += 0.02 * rng.standard_normal(song.shape)
    return np.asarray(0.5 * song / np.abs(song).max(), np.float32)


def decoded(song: Path | bytes) -> Samples:
    """Return a song, or a stem, as songs are read: (2, time) at 44.1 kHz."""
    return np.concatenate(list(SongReader(song if isinstance(song, Path) else BytesIO(song))), axis=1)


def encode(
    kind: str,
    samples: NDArray[np.float32],
    *,
    sample_rate: int = 44_100,
    layout: str = "stereo",
    codec: str | None = None,
    **tags: str,
) -> bytes:
    """Encode (channels, time) with PyAV as one of `ENCODINGS`, or with another codec; with these tags."""
    muxer, usual_codec, sample_format = ENCODINGS[kind]
    buffer = BytesIO()
    with av.open(buffer, "w", format=muxer) as output:
        output.metadata.update(tags)
        stream: Any = output.add_stream(codec or usual_codec, rate=sample_rate, layout=layout)
        stream.codec_context.bit_rate = 192_000  # of those that have one
        stream.codec_context.format = stream.codec_context.codec.audio_formats[0].name if codec else sample_format
        packed = np.ascontiguousarray(samples.T).reshape(1, -1)  # eight planes are more than PyAV can fill
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = sample_rate, Fraction(1, sample_rate), 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return buffer.getvalue()


def png(noise_bytes: int = 0) -> bytes:
    """Return a picture, with as many bytes of noise that pictures may have in them."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    noise = chunk(b"juNk", np.random.default_rng(1).bytes(noise_bytes)) if noise_bytes else b""
    head = chunk(b"IHDR", struct.pack(">2I5B", 2, 2, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + noise + chunk(b"IDAT", zlib.compress(bytes(14))) + chunk(b"IEND", b"")


def film(
    late_seconds: float, *, container: str, codec: str = "pcm_s16le", begins: float = 0.0, goes_on_seconds: float = 0.0
) -> bytes:
    """A film of three seconds whose sound begins later than its picture, which goes on for a while after it."""
    buffer = BytesIO()
    with av.open(buffer, "w", format=container) as output:
        picture: Any = output.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        sound: Any = output.add_stream(codec, rate=44_100, layout="stereo")
        packets = []
        for number in range(round(10 * (3 + goes_on_seconds))):
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24").reformat(format="yuv420p")
            image.pts = round(10 * begins) + number
            packets += picture.encode(image)
        samples = np.ascontiguousarray(music(3 * 44_100)[:, : round((3 - late_seconds) * 44_100)])
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
        frame.sample_rate = 44_100
        frame.pts = round((begins + late_seconds) * 44_100)
        packets += [*picture.encode(None), *sound.encode(frame), *sound.encode(None)]
        for packet in packets:
            output.mux(packet)
    return buffer.getvalue()


def ogg_vorbis(samples: NDArray[np.float32], *, sample_rate: int = 44_100) -> bytes:
    """Encode (channels, time) as Ogg Vorbis, which PyAV's FFmpeg cannot."""
    buffer = BytesIO()
    soundfile.write(buffer, samples.T, sample_rate, format="OGG", subtype="VORBIS")
    return buffer.getvalue()


def wav(
    samples: NDArray[Any],
    *,
    sample_rate: int = 44_100,
    claimed_channels: int | None = None,
    claimed_bytes: int | None = None,
    places: int | None = None,
) -> bytes:
    """Return (channels, time) as a WAV file whose header may lie; int16 or float32 by the type of the samples.

    `places` is the mask of speakers of the extensible form.
    """
    channels = claimed_channels if claimed_channels is not None else samples.shape[0]
    width = samples.dtype.itemsize
    data = np.ascontiguousarray(samples.T).tobytes()
    size = len(data) if claimed_bytes is None else claimed_bytes
    kind = 3 if samples.dtype.kind == "f" else 1
    block = channels * width & 0xFFFF
    header = struct.pack("<HHIIHH", kind, channels, sample_rate, sample_rate * block & 0xFFFFFFFF, block, 8 * width)
    if places is not None:
        guid = struct.pack("<H", kind) + bytes.fromhex("000000001000800000aa00389b71")
        header = struct.pack("<H", 0xFFFE) + header[2:] + struct.pack("<HHI", 22, 8 * width, places) + guid
    fmt = b"fmt " + struct.pack("<I", len(header)) + header
    return (
        b"RIFF" + struct.pack("<I", 4 + len(fmt) + 8 + size) + b"WAVE" + fmt + b"data" + struct.pack("<I", size) + data
    )


def matroska_of_one_block(samples: NDArray[np.int16], *, sample_rate: int = 44_100) -> bytes:
    """Return (channels, time) as PCM in a Matroska file whose only block has all of it."""
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
        stream: Any = output.add_stream("pcm_s16le", rate=sample_rate, layout=layout)
        packet = av.Packet(samples.T.tobytes())
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, sample_rate)
        output.mux(packet)
    return buffer.getvalue()


def code_of(data: bytes, *, min_seconds: float = 0.1, max_seconds: float = 60) -> str:
    """Have a song refused, and return the code of the refusal."""
    with pytest.raises(AudioError) as caught:
        measure(BytesIO(data), min_seconds=min_seconds, max_seconds=max_seconds)
    return caught.value.code


def accepted(data: bytes) -> AudioInfo:
    """Return what is found out of a song that is taken."""
    return measure(BytesIO(data), min_seconds=0.1, max_seconds=60)


def noise(size: int) -> bytes:
    """Return bytes that are nothing, the same ones each time."""
    return np.random.default_rng(7).bytes(size)
