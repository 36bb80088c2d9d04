"""A stem is as long as what was written, in time with it, and as loud."""

import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audio_files import FORMATS, decoded, music
from unmix.audio.encode import StemWriter
from unmix.audio.formats import BITRATES_KBPS, LOSSY
from unmix.audio.tags import NO_TAGS, Tags
from unmix.engine.sdr import sdr_db
from unmix.errors import EngineError

#: Around the lengths where mp3 frames begin and end, and where LAME adds a frame of padding.
LENGTHS = [1, 2, 46, 47, 576, 1151, 1152, 1153, 1198, 1199, 2304, 2305, 2350, 2351, 44_100, 100_001, 123_456]


def write(
    path: Path, samples: NDArray[np.float32], *, format: str, bits: int = 16, pieces: int = 1, tags: Tags = NO_TAGS
) -> StemWriter:
    writer = StemWriter(path, format=format, bits=bits, tags=tags)
    for piece in np.array_split(samples, pieces, axis=1):
        writer.write(piece)
    writer.close()
    return writer


@pytest.mark.parametrize("format", ["mp3", "wav", "flac"])
def test_a_stem_has_the_length_of_what_was_written_to_the_sample(format: str, tmp_path: Path) -> None:
    for samples in LENGTHS:
        path = tmp_path / "stem"
        write(path, music(samples), format=format)
        by_ffmpeg, by_libsndfile = decoded(path).shape[1], len(soundfile.read(path)[0])
        assert (by_ffmpeg, by_libsndfile) == (samples, samples)


def test_an_m4a_says_the_length_of_what_was_written_to_the_sample_and_ffmpeg_fills_the_last_frame(
    tmp_path: Path,
) -> None:
    for samples in (*LENGTHS, 1023, 1024, 1025, 2047, 2048, 2049):
        write(tmp_path / "stem", music(samples), format="m4a")
        with av.open(tmp_path / "stem") as opened:
            (stream,) = opened.streams.audio
            assert (stream.duration, stream.time_base) == (samples, Fraction(1, 44_100))
        assert decoded(tmp_path / "stem").shape[1] == -(-samples // 1024) * 1024


def test_an_opus_has_the_samples_of_its_own_rate_that_last_as_long(tmp_path: Path) -> None:
    for samples in LENGTHS:
        write(tmp_path / "stem", music(samples), format="opus")
        stem, rate = soundfile.read(tmp_path / "stem")
        assert (rate, len(stem)) == (48_000, -(-samples * 48_000 // 44_100))
        assert decoded(tmp_path / "stem").shape[1] - samples in (0, 1)


@pytest.mark.parametrize("gain", [0, 1])
def test_an_ogg_has_the_length_of_what_was_written_and_but_for_13_ms_ffmpeg_finds_it_too(
    gain: int, tmp_path: Path
) -> None:
    for samples in (*LENGTHS, 577, 2047, 2048, 2049, 200_000):
        write(tmp_path / "stem", gain * music(samples), format="ogg")
        assert len(soundfile.read(tmp_path / "stem")[0]) == samples
        if samples > 576:
            assert decoded(tmp_path / "stem").shape[1] == samples


@pytest.mark.parametrize("format", FORMATS)
def test_a_stem_is_aligned_with_what_was_written(format: str, tmp_path: Path) -> None:
    song = music(60_000)
    write(tmp_path / "stem", song, format=format)
    stems = [decoded(tmp_path / "stem")[:, :60_000]]
    if format in ("mp3", "wav", "flac", "ogg"):  # libsndfile reads no m4a, and gives Opus at its own rate
        stems.append(soundfile.read(tmp_path / "stem")[0].T)
    for stem in stems:
        lags = range(-40, 41)
        likeness = [float((song[0, 100:-100] * stem[0, 100 + lag : 59_900 + lag]).sum()) for lag in lags]
        assert lags[int(np.argmax(likeness))] == 0
        assert sdr_db(song, stem) > (15 if format in LOSSY else 75)


@pytest.mark.parametrize("format", ["mp3", "m4a", "opus"])
@pytest.mark.parametrize("bitrate_kbps", [BITRATES_KBPS[0], 128, BITRATES_KBPS[-1]])
def test_a_lossy_stem_has_about_the_bit_rate_that_was_asked_for(format: str, bitrate_kbps: int, tmp_path: Path) -> None:
    writer = StemWriter(tmp_path / "stem", format=format, bitrate_kbps=bitrate_kbps)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 10 * 44_100)).astype(np.float32)
    writer.write(noise)
    writer.close()
    assert (tmp_path / "stem").stat().st_size / 10 == pytest.approx(125 * bitrate_kbps, rel=0.25)


@pytest.mark.parametrize("bitrate_kbps", BITRATES_KBPS)
def test_an_ogg_is_of_the_quality_that_is_meant_for_a_bit_rate_of_64_kbit_s_or_more(
    bitrate_kbps: int, tmp_path: Path
) -> None:
    StemWriter(tmp_path / "stem", format="ogg", bitrate_kbps=bitrate_kbps).close()
    found = (tmp_path / "stem").read_bytes()
    (meant,) = struct.unpack_from("<i", found, found.index(b"\1vorbis") + 20)
    assert meant == 1000 * max(bitrate_kbps, 64)


@pytest.mark.parametrize("format", ["ogg", "opus"])
def test_oggs_of_other_sound_or_tags_have_other_serial_numbers_so_that_they_can_be_chained(
    format: str, tmp_path: Path
) -> None:
    tags, silence = Tags({"title": "Song"}), np.zeros((2, 50_000), np.float32)
    stems = [(music(50_000), NO_TAGS), (music(50_000, seed=1), NO_TAGS)]
    stems += [(silence, tags.of_stem("bass")), (silence, tags.of_stem("drums"))]
    numbers = set()
    for samples, tags_of_stem in stems:
        write(tmp_path / "stem", samples, format=format, tags=tags_of_stem)
        numbers.add((tmp_path / "stem").read_bytes()[14:18])
    assert len(numbers) == 4


@pytest.mark.parametrize("format", FORMATS)
def test_the_pieces_of_a_stem_do_not_matter(format: str, tmp_path: Path) -> None:
    song = music(50_000)
    write(tmp_path / "whole", song, format=format)
    write(tmp_path / "pieces", song, format=format, pieces=13)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_stems_that_are_written_side_by_side_do_not_touch_each_other(format: str, tmp_path: Path) -> None:
    songs = [music(50_000, seed=seed) for seed in range(3)]
    for seed, song in enumerate(songs):
        write(tmp_path / f"alone-{seed}", song, format=format)
    writers = [StemWriter(tmp_path / f"beside-{seed}", format=format) for seed in range(3)]
    for piece in range(10):
        for writer, song in zip(writers, songs, strict=True):
            writer.write(song[:, 5_000 * piece : 5_000 * (piece + 1)])
    for seed, writer in enumerate(writers):
        writer.close()
        assert (tmp_path / f"beside-{seed}").read_bytes() == (tmp_path / f"alone-{seed}").read_bytes()


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_lossless_stems_are_the_nearest_16_bit_samples(format: str, tmp_path: Path) -> None:
    song = music(20_000)
    write(tmp_path / "stem", song, format=format)
    stem, _ = soundfile.read(tmp_path / "stem", dtype="int16")
    assert np.array_equal(stem.T, np.rint(song * 32_768))


#: More than 24 bits are to be found in the samples of the songs.
FINE = music(20_000) * np.float32(0.987654)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_stems_of_24_bits_are_the_nearest_samples_of_so_many(format: str, tmp_path: Path) -> None:
    writer = write(tmp_path / "stem", FINE, format=format, bits=24, pieces=7)
    assert soundfile.info(tmp_path / "stem").subtype == "PCM_24"
    stem, _ = soundfile.read(tmp_path / "stem", dtype="int32")
    assert np.array_equal(stem.T >> 8, np.rint(FINE.astype(np.float64) * 2**23))
    assert np.abs(decoded(tmp_path / "stem") - FINE).max() <= 2**-24
    assert writer.clipped == 0


def test_stems_of_floating_point_are_the_samples_themselves_beyond_full_scale_too(tmp_path: Path) -> None:
    writer = write(tmp_path / "stem", 9 * FINE, format="wav", bits=32, pieces=7)
    assert soundfile.info(tmp_path / "stem").subtype == "FLOAT"
    assert np.array_equal(decoded(tmp_path / "stem"), 9 * FINE)
    assert writer.clipped == 0


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_what_exceeds_full_scale_in_24_bits_is_clamped_and_counted(format: str, tmp_path: Path) -> None:
    song = FINE.copy()
    song[0, 100], song[1, 200:210] = 1.7, -3.0
    writer = write(tmp_path / "stem", song, format=format, bits=24)
    stem, _ = soundfile.read(tmp_path / "stem", dtype="int32")
    assert writer.clipped == 11
    assert (stem[100, 0] >> 8, stem[200, 1] >> 8) == (2**23 - 1, -(2**23))


def test_what_exceeds_full_scale_is_clamped_and_counted_and_the_rest_keeps_its_level(tmp_path: Path) -> None:
    song = music(20_000)
    song[0, 100] = 1.7
    song[1, 200:210] = -3.0
    writer = write(tmp_path / "stem", song, format="wav")
    stem = decoded(tmp_path / "stem")
    assert writer.clipped == 11
    assert stem[0, 100] == pytest.approx(1, abs=1e-4)
    assert np.all(stem[1, 200:210] == -1)
    assert np.abs(stem[:, 300:] - song[:, 300:]).max() < 1 / 32_768


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full")
@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_an_error_that_may_pass(format: str, tmp_path: Path) -> None:
    full = tmp_path / "stem"
    full.symlink_to("/dev/full")
    writer = StemWriter(full, format=format)
    with pytest.raises(EngineError) as caught:  # noqa: PT012 — where it is noticed depends on the buffers
        writer.write(music(200_000))
        writer.close()
    assert caught.value.code == "write_failed"
    assert caught.value.retryable
    writer.discard()
    assert not full.is_symlink()


@pytest.mark.parametrize("format", FORMATS)
def test_a_discarded_stem_leaves_no_file(format: str, tmp_path: Path) -> None:
    for finished in (False, True):
        writer = StemWriter(tmp_path / "stem", format=format)
        writer.write(music(50_000))
        if finished:
            writer.close()
        writer.discard()
        assert not list(tmp_path.iterdir())
