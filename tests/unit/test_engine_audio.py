"""Songs of every accepted kind become the same samples."""

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audio_files import ENCODINGS, decoded, encode, music, ogg_vorbis, wav
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import SongReader, measure
from unmix.engine.sdr import sdr_db

SONG = music(3 * 44_100 + 18)


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "w64", "caf", "au", "tta", "wv"])
def test_lossless_songs_come_out_as_they_went_in(kind: str) -> None:
    samples = decoded(encode(kind, SONG))
    assert samples.dtype == np.float32
    assert samples.shape == SONG.shape
    assert sdr_db(SONG, samples) > 75


@pytest.mark.parametrize(
    "kind", ["mp3", "m4a", "aac", "opus", "webm", "vorbis", "ac3", "eac3", "wma", "avi", "flv", "ts", "mpg"]
)
def test_lossy_songs_come_out_in_time_and_alike(kind: str) -> None:
    sample_rate = 48_000 if kind in ("opus", "webm") else 44_100
    song = music(3 * sample_rate, sample_rate=sample_rate)
    data = ogg_vorbis(song) if kind == "vorbis" else encode(kind, song, sample_rate=sample_rate)
    samples = decoded(data)
    assert samples.shape[0] == 2
    # Bare frames state no padding: what the encoder added at the beginning stays. Others trim it.
    delays = {"aac": 1024, "ac3": 256, "eac3": 256, "avi": 256, "flv": 1105, "ts": 1024, "mpg": 481}
    delay = delays.get(kind, 0)
    reference = decoded(wav(song, sample_rate=sample_rate))
    early = 2_048 if kind == "wma" else 0  # FFmpeg's decoder leaves out the first frame, in which others begin
    assert sdr_db(reference[:, early : early + 100_000], samples[:, delay : delay + 100_000]) > 10


def test_an_mp3_with_an_info_tag_has_its_exact_length() -> None:
    assert decoded(encode("mp3", SONG)).shape == SONG.shape


def test_every_accepted_kind_is_told_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    containers = {}
    for kind in ENCODINGS:
        sample_rate = 48_000 if kind in ("opus", "webm") else 44_100
        path = tmp_path / f"{kind}.mp3"
        path.write_bytes(encode(kind, music(sample_rate), sample_rate=sample_rate))
        containers[kind] = measure(path).container
    assert containers == {
        "mp3": "mp3",
        "wav": "wav",
        "flac": "flac",
        "m4a": "mp4",
        "aac": "aac",
        "opus": "ogg",
        "webm": "matroska",
        "aiff": "aiff",
        "w64": "w64",
        "caf": "caf",
        "au": "au",
        "tta": "tta",
        "wv": "wv",
        "ac3": "ac3",
        "eac3": "eac3",
        "wma": "asf",
        "avi": "avi",
        "flv": "flv",
        "ts": "mpegts",
        "mpg": "mpeg",
    }


def test_a_path_that_looks_like_a_protocol_is_only_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("concat:song.mp3|other.mp3")
    path.write_bytes(encode("mp3", SONG))
    assert measure(path).samples == SONG.shape[1]


def test_a_mono_song_is_on_both_channels_at_its_own_level() -> None:
    mono = music(44_100, channels=1)
    samples = decoded(wav(mono))
    assert np.array_equal(samples, np.repeat(mono, 2, axis=0))


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 48_000, 96_000, 192_000])
def test_other_sample_rates_are_resampled_with_a_note(sample_rate: int) -> None:
    seconds = np.arange(sample_rate) / sample_rate
    tone = np.sin(2 * np.pi * 440 * seconds)[None].astype(np.float32) * 0.5
    data = wav(tone, sample_rate=sample_rate)
    info = measure(BytesIO(data))
    assert info.samples == SAMPLE_RATE
    assert info.sample_rate == sample_rate
    assert (info.warnings, info.notes) == ((), (f"resampled from {sample_rate} Hz to 44100 Hz",))
    expected = np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE) * 0.5
    middle = slice(2_000, -2_000)
    assert sdr_db(expected[middle], decoded(data)[0, middle]) > 60


def tone_level_db(frequency: float, sample_rate: int) -> float:
    """Return how loud a tone in a song of this rate is once it was read, to what it was."""
    seconds = np.arange(sample_rate) / sample_rate
    tone = np.tile(np.sin(2 * np.pi * frequency * seconds) * 0.5, (2, 1)).astype(np.float32)
    middle = decoded(wav(tone, sample_rate=sample_rate))[:, 4_000:-4_000].astype(np.float64)
    return float(10 * np.log10((middle**2).mean() / 0.125))


@pytest.mark.parametrize("sample_rate", [48_000, 88_200, 96_000])
def test_resampling_keeps_what_can_be_heard_and_lets_nothing_above_fold_back(sample_rate: int) -> None:
    for frequency in (1_000, 18_000, 19_000, 20_000):
        assert abs(tone_level_db(frequency, sample_rate)) < 0.1
    for frequency in (22_100, 22_300, 23_000, 23_900):
        assert tone_level_db(frequency, sample_rate) < -60


@pytest.mark.parametrize(("sample_rate", "frequency"), [(32_000, 15_000), (22_050, 10_400)])
def test_a_song_of_a_low_rate_is_resampled_without_images(sample_rate: int, frequency: int) -> None:
    seconds = np.arange(sample_rate) / sample_rate
    tone = (np.sin(2 * np.pi * frequency * seconds) * 0.5)[None].astype(np.float32)
    expected = np.sin(2 * np.pi * frequency * np.arange(SAMPLE_RATE) / SAMPLE_RATE) * 0.5
    samples = decoded(wav(tone, sample_rate=sample_rate))[0]
    assert sdr_db(expected[4_000:-4_000], samples[4_000:-4_000]) > 60


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 32_000, 48_000, 96_000, 192_000, 11_127])
def test_a_resampled_song_lasts_as_long_as_it_did_whatever_its_length(sample_rate: int) -> None:
    for length in (1, 2, 17, 100, 144, 145, 601, 4_799, 48_001):
        expected = math.ceil(length * SAMPLE_RATE / sample_rate)
        assert measure(BytesIO(wav(music(length), sample_rate=sample_rate))).samples == expected


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT", "DOUBLE"])
def test_silence_stays_silence_when_it_is_resampled(subtype: str) -> None:
    buffer = BytesIO()
    soundfile.write(buffer, np.zeros((300, 2)), 48_000, format="WAV", subtype=subtype)
    assert not decoded(buffer.getvalue()).any()


@pytest.mark.parametrize("places", [0x0, 0x3, 0x9, 0xC, 0x5, 0x30, 0x60000000])
def test_two_channels_are_left_and_right_whatever_places_the_file_gives_them(places: int) -> None:
    assert np.array_equal(decoded(wav(SONG, places=places)), SONG)


@pytest.mark.parametrize("places", [0x0, 0x4, 0x1, 0x8])
def test_one_channel_is_on_both_sides_whatever_place_the_file_gives_it(places: int) -> None:
    assert np.array_equal(decoded(wav(SONG[:1], places=places)), np.repeat(SONG[:1], 2, axis=0))


@pytest.mark.parametrize(("channels", "quieter_db"), [(6, 7.7), (8, 9.9)])
def test_surround_is_mixed_down_without_clipping_and_with_a_note(channels: int, quieter_db: float) -> None:
    loud = np.ones((channels, 44_100), np.float32) * 0.9
    info = measure(BytesIO(wav(loud)))
    assert info.channels == channels
    note = f"mixed down from {channels} channels to stereo, {quieter_db} dB quieter so that nothing clips"
    assert (info.warnings, info.notes) == ((), (note,))
    samples = decoded(wav(loud))
    assert samples.shape == (2, 44_100)
    assert 0.85 < samples.max() <= 0.9001
    loud[1:] = 0
    assert 20 * np.log10(decoded(wav(loud))[0].max() / 0.9) == pytest.approx(-quieter_db, abs=0.05)


@pytest.mark.parametrize("kind", ["m4a", "flac"])
def test_eight_channels_of_another_rate_are_a_song(kind: str) -> None:
    """PyAV lists more planes of such a frame than there are."""
    song = music(48_000, channels=8, sample_rate=48_000)
    info = measure(BytesIO(encode(kind, song, sample_rate=48_000, layout="7.1")))
    assert info.channels == 8
    assert info.duration_seconds == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_width_of_sample_is_read(subtype: str) -> None:
    buffer = BytesIO()
    soundfile.write(buffer, SONG.T, SAMPLE_RATE, format="WAV", subtype=subtype)
    assert sdr_db(SONG, decoded(buffer.getvalue())) > (25 if subtype == "PCM_U8" else 90)


def test_a_song_can_be_read_twice_and_gives_the_same_samples() -> None:
    reader = SongReader(BytesIO(encode("mp3", SONG)))
    first = np.concatenate(list(reader), axis=1)
    assert np.array_equal(first, np.concatenate(list(reader), axis=1))


def test_a_song_comes_in_small_chunks() -> None:
    assert max(chunk.shape[1] for chunk in SongReader(BytesIO(encode("flac", SONG)))) < 100_000


def test_nothing_is_known_of_a_song_before_it_was_read() -> None:
    reader = SongReader(BytesIO(encode("flac", SONG)))
    with pytest.raises(RuntimeError, match="decoded to its end"):
        reader.info  # noqa: B018


def test_a_song_glued_together_from_different_rates_is_read_to_its_end() -> None:
    glued = encode("mp3", music(44_100)) + encode("mp3", music(48_000, sample_rate=48_000), sample_rate=48_000)
    assert abs(measure(BytesIO(glued)).duration_seconds - 2) < 0.1


def chained(*songs: bytes) -> NDArray[np.float32]:
    """Decode a chain of Ogg and check that nothing is found wrong with it."""
    info = measure(BytesIO(b"".join(songs)))
    assert (info.container, info.warnings) == ("ogg", ())
    return decoded(b"".join(songs))


def test_a_chain_of_songs_is_read_whole_whatever_their_rates_channels_and_codecs() -> None:
    links = [
        ogg_vorbis(music(44_100)),
        ogg_vorbis(music(96_000, sample_rate=48_000), sample_rate=48_000),
        ogg_vorbis(music(44_100, channels=1, seed=1)),
        encode("opus", music(48_000, sample_rate=48_000), sample_rate=48_000),
        ogg_vorbis(music(44_100, seed=2)),
    ]
    samples = chained(*links)
    assert np.array_equal(samples, np.concatenate([decoded(link) for link in links], axis=1))
    assert samples.shape[1] == 6 * 44_100


def test_a_chain_behind_a_tag_and_a_link_that_is_damaged_are_no_end(cover_tag: bytes) -> None:
    links = [ogg_vorbis(music(44_100, seed=seed)) for seed in range(3)]
    assert chained(cover_tag, *links).shape[1] == 3 * 44_100
    whole = [decoded(link) for link in links]
    links[1] = links[1][:5_000] + bytes(len(links[1]) - 5_000)
    samples = decoded(b"".join(links))
    assert np.array_equal(samples[:, :44_100], whole[0])
    assert np.array_equal(samples[:, -44_100:], whole[2])
    links[1] = links[1].replace(b"vorbis", b"volume")
    assert np.array_equal(decoded(b"".join(links)), np.concatenate([whole[0], whole[2]], axis=1))
    assert measure(BytesIO(b"".join(links))).warnings == ("1 broken frame was skipped",)


@pytest.fixture
def cover_tag() -> bytes:
    return b"ID3\x04\x00\x00\x00\x00\x07\x68" + bytes(1_000)


@pytest.mark.parametrize("zeros", [16_000, 20_000, 50_000])
def test_zeros_before_an_mp3_are_passed_over(zeros: int) -> None:
    info = measure(BytesIO(bytes(zeros) + encode("mp3", SONG)))
    assert (info.container, info.warnings) == ("mp3", ())
    assert info.duration_seconds == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav"])
def test_a_wav_whose_codec_has_no_exact_bit_rate_does_not_end_early(codec: str) -> None:
    info = measure(BytesIO(encode("wav", music(20 * SAMPLE_RATE), codec=codec)))
    assert info.warnings == ()
    assert info.duration_seconds == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("kind", ["mp3", "flac"])
def test_a_tag_with_a_large_picture_is_skipped(kind: str) -> None:
    size = 300_000
    tag = b"ID3\x04\x00\x00" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
    assert measure(BytesIO(tag + encode(kind, SONG))).samples == SONG.shape[1]


def test_the_end_of_a_stream_recorded_in_the_middle_of_a_frame_is_found() -> None:
    cut = encode("mp3", SONG)[1_700:]
    info = measure(BytesIO(cut))
    assert info.container == "mp3"
    assert info.duration_seconds > 2.5


def as_path(data: bytes, folder: Path) -> Path:
    path = folder / "song"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("home", [lambda data, _: BytesIO(data), as_path])
def test_files_and_paths_are_read_alike(home: Callable[[bytes, Path], Path], tmp_path: Path) -> None:
    assert measure(home(encode("flac", SONG), tmp_path)).samples == SONG.shape[1]
