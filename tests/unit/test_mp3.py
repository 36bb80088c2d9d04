"""An mp3 says itself where its samples begin and end, at every bit rate, and they keep their level."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audio_files import decoded, encode, music
from unmix.audio.encode import StemWriter
from unmix.audio.mp3 import crc16
from unmix.engine.sdr import sdr_db

BIT_RATES = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stem.mp3"


def write(path: Path, samples: NDArray[np.float32], *, bitrate_kbps: int = 192, mp3_quality: int = 5) -> None:
    writer = StemWriter(path, format="mp3", bitrate_kbps=bitrate_kbps, mp3_quality=mp3_quality)
    writer.write(samples)
    writer.close()


def level(original: NDArray[np.float32], stem: NDArray[np.float32]) -> float:
    """Return the factor that brings the original closest to the stem."""
    return float((original * stem).sum() / np.square(original).sum())


def tone(amplitude: float) -> NDArray[np.float32]:
    sine = amplitude * np.sin(2 * np.pi * 440 / 44_100 * np.arange(44_100))
    return np.stack([sine, sine]).astype(np.float32)


def info_tag(mp3: bytes) -> bytes:
    """Return the first frame's header, silence and tag: all that its last field, a CRC, covers, and that field."""
    start = mp3.index(b"Info") - 36  # behind FFmpeg's ID3 tag
    return mp3[start : start + 192]


def frames_behind_the_first(mp3: bytes) -> list[bytes]:
    frames, position = [], 0
    while position < len(mp3):
        assert mp3[position : position + 2] == b"\xff\xfb"
        bitrate_kbps = BIT_RATES[(mp3[position + 2] >> 4) - 1]
        length = 144_000 * bitrate_kbps // 44_100 + (mp3[position + 2] >> 1 & 1)
        frames.append(mp3[position : position + length])
        position += length
    return frames[1:]


@pytest.mark.parametrize("bitrate_kbps", BIT_RATES)
def test_the_length_is_exact_and_the_level_kept_at_every_bit_rate(bitrate_kbps: int, path: Path) -> None:
    song = tone(0.5)[:, :30_001]
    write(path, song, bitrate_kbps=bitrate_kbps)
    for stem in (decoded(path), soundfile.read(path)[0].T):
        assert stem.shape == song.shape
        assert level(song, stem) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("quality", [0, 2, 7, 9])
def test_the_quality_changes_neither_length_nor_time(quality: int, path: Path) -> None:
    song = music(30_001)
    write(path, song, mp3_quality=quality)
    assert decoded(path).shape == song.shape
    assert sdr_db(song, decoded(path)) > 15


def test_a_lower_number_for_the_quality_is_another_encoding(path: Path) -> None:
    files = []
    for quality in (2, 5, 7):
        write(path, music(50_000), mp3_quality=quality)
        files.append(path.read_bytes())
    assert len(set(files)) == 3


@pytest.mark.parametrize(("asked", "nearest"), [(128, 128), (320, 320), (100, 96), (33, 32)])
def test_the_bit_rate_is_the_nearest_there_is(asked: int, nearest: int, path: Path) -> None:
    write(path, music(5 * 44_100), bitrate_kbps=asked)
    assert path.stat().st_size == pytest.approx(5 * nearest * 125, rel=0.03)


def test_a_stem_begins_where_ffmpegs_own_mp3_of_it_begins(path: Path) -> None:
    song = music(60_000)
    write(path, song)
    ours, ffmpegs = decoded(path), decoded(encode("mp3", song))
    lags = range(-40, 41)
    likeness = [float((ours[0, 100:-100] * ffmpegs[0, 100 + lag : 59_900 + lag]).sum()) for lag in lags]
    assert lags[int(np.argmax(likeness))] == 0
    assert ours.shape == ffmpegs.shape


def test_peaks_at_full_scale_are_cut_a_little_and_never_wrapped(path: Path) -> None:
    song = tone(1.0)
    write(path, song, bitrate_kbps=128)
    stem = decoded(path)
    assert sdr_db(song, stem) > 30
    assert level(song, stem) > 0.97


def test_the_checksums_are_those_that_ffmpeg_writes() -> None:
    mp3 = encode("mp3", music(50_000))
    tag = info_tag(mp3)
    music_crc, tag_crc = struct.unpack(">HH", tag[-4:])
    first_frame = mp3.index(tag)
    audio = mp3[first_frame + 144_000 * BIT_RATES[(tag[2] >> 4) - 1] // 44_100 :]
    assert crc16(tag[:-2]) == tag_crc
    assert crc16(audio) == music_crc
    assert crc16(audio[1_001:], crc16(audio[1_000:1_001], crc16(audio[:1_000]))) == music_crc


@pytest.mark.parametrize("bitrate_kbps", [32, 192, 320])
def test_the_info_frame_tells_what_is_behind_it(bitrate_kbps: int, path: Path) -> None:
    samples = 50_000
    write(path, music(samples), bitrate_kbps=bitrate_kbps)
    mp3 = path.read_bytes()
    tag, audio = info_tag(mp3), frames_behind_the_first(mp3)
    count, size = struct.unpack(">II", tag[44:52])
    delay_and_padding = int.from_bytes(tag[177:180], "big")
    assert count == len(audio)
    assert size == len(mp3)
    assert tag[156:160] == b"LAME"
    assert delay_and_padding >> 12 == 576
    assert delay_and_padding & 0xFFF == 1152 * count - 576 - samples
    assert struct.unpack(">IHH", tag[-8:]) == (len(mp3), crc16(b"".join(audio)), crc16(tag[:-2]))
