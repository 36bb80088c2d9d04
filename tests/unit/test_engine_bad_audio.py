"""What is no song, or a broken one, gets its own error code or a warning; nothing else on this machine is opened."""

import re
import struct
import zipfile
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from audio_files import ENCODINGS, accepted, code_of, encode, music, noise, ogg_vorbis, wav
from unmix.audio.opening import open_part, parts_of
from unmix.audio.samples import SAMPLE_RATE
from unmix.audio.song_reader import measure
from unmix.errors import AudioError

SONG = music(4 * SAMPLE_RATE)


def a_zip_of_an_mp3() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("song.mp3", encode("mp3", SONG))
    return buffer.getvalue()


def an_avi_with(playlist: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(playlist) + 4) + b"AVI " + playlist


HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    "data",
    [
        b"just some words, nothing to hear\n" * 100,
        b"<!DOCTYPE html><html><script>alert(1)</script></html>",
        b"%PDF-1.7\n" + noise(5_000),
        b"\x7fELF\x02\x01\x01" + noise(5_000),
        a_zip_of_an_mp3(),
        b"\x89PNG\r\n\x1a\n" + noise(5_000),
        b'<?xml version="1.0"?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>',
        noise(100_000),
        bytes(100_000),
        b"The free software that this text is about\n" * 100,
        b"ID3",
        b"x",
        b"",
    ],
    ids=[
        "text",
        "html",
        "pdf",
        "elf",
        "zip",
        "png",
        "dash",
        "noise",
        "zeros",
        "more text",
        "a cut tag",
        "one byte",
        "nothing",
    ],
)
def test_what_is_not_audio_is_refused(data: bytes) -> None:
    assert code_of(data) == "not_audio"


@pytest.mark.parametrize(
    "data",
    [
        HLS,
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        an_avi_with(HLS),
    ],
    ids=["hls", "concat", "sdp", "hls in avi"],
)
def test_media_and_playlists_that_we_do_not_take_are_refused(data: bytes) -> None:
    assert code_of(data) == "unsupported_container"


@pytest.mark.parametrize(
    "data",
    [
        an_avi_with(b"LIST" + struct.pack("<I", len(HLS) + 4) + b"hdrl" + HLS),
        b"FLV\x01\x05\x00\x00\x00\x09" + noise(1_000),
        (b"G" + bytes(187)) * 20,
        b"\x00\x00\x01\xba" + noise(1_000),
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + noise(1_000),
    ],
    ids=["avi", "flv", "mpeg-ts", "mpeg-ps", "asf"],
)
def test_media_that_begin_well_and_hold_no_sound_are_refused(data: bytes) -> None:
    assert code_of(data) in ("undecodable", "no_audio_frames")


def test_only_the_demuxer_that_was_sniffed_may_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret.mp3").write_bytes(encode("mp3", SONG))
    monkeypatch.setattr("unmix.audio.opening.sniff", lambda head: "mp3")  # as if sniffing had been fooled
    assert code_of(b"ffconcat version 1.0\nfile secret.mp3\n") == "no_audio_frames"


def test_a_truncated_song_is_accepted_with_a_warning() -> None:
    songs = {kind: encode(kind, SONG) for kind in ("mp3", "flac", "wav", "au", "wv")}
    songs |= {"opus": encode("opus", SONG, sample_rate=48_000), "ogg": ogg_vorbis(SONG)}
    for kind, data in songs.items():
        assert not accepted(data).warnings, kind
        info = accepted(data[: len(data) // 2])
        assert 0.9 < info.duration_seconds < 2.5, kind  # pages of Opus last a second
        assert any("ends early" in warning for warning in info.warnings), kind


def test_a_truncated_song_of_less_than_a_second_is_undecodable_if_its_last_frame_is_broken() -> None:
    data = encode("flac", SONG)
    assert code_of(data[: len(data) // 6]) == "undecodable"


def test_an_mp4_cut_before_its_index_is_undecodable() -> None:
    data = encode("m4a", SONG)
    assert code_of(data[: len(data) // 2]) == "undecodable"


def test_broken_frames_in_the_middle_are_skipped_with_a_warning() -> None:
    data = bytearray(encode("mp3", SONG))
    middle = len(data) // 2
    data[middle : middle + 3_000] = noise(3_000)
    info = accepted(bytes(data))
    assert 4.0 <= info.duration_seconds < 4.05  # silence stands for them; FFmpeg no longer finds the padding at the end
    assert any(re.match(r"\d+ broken frames? (was|were) skipped", warning) for warning in info.warnings)


@pytest.mark.parametrize("kind", ["caf", "au", "tta", "wv", "ac3", "eac3"])
def test_a_header_without_a_song_behind_it_is_refused(kind: str) -> None:
    data = encode(kind, SONG)
    for size in (12, 24, 60):
        assert code_of(data[:size]) in ("no_audio_frames", "undecodable", "not_audio", "too_short")
    for junk in (noise(5_000), bytes(5_000)):
        codes = ("not_audio", "no_audio_frames", "undecodable", "bad_sample_rate", "bad_channels")
        assert code_of(data[:12] + junk) in codes


@pytest.mark.parametrize(
    "text", [b"caffeine keeps us awake\n", b".snd is a name\n", b"TTA1 and others\n", b"wvpk is short\n", b"\x0b\x77\n"]
)
def test_words_that_begin_like_a_song_are_not_audio(text: bytes) -> None:
    assert code_of(text * 100) == "not_audio"


def a_song_with(video: str) -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        sound: Any = output.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        picture: Any = output.add_stream(video, rate=10)
        picture.width = picture.height = 32
        picture.pix_fmt = picture.codec.video_formats[0].name
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        for _ in range(10):
            output.mux(picture.encode(image.reformat(format=picture.pix_fmt)))
        output.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray((music(SAMPLE_RATE, channels=1) * 9_999).astype(np.int16), "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        output.mux([*sound.encode(frame), *sound.encode(None)])
    return buffer.getvalue()


@pytest.mark.parametrize("video", ["mpeg4", "mjpeg"])
def test_no_decoder_of_pictures_runs_on_a_song(video: str) -> None:
    """What the pixels are like FFmpeg learns by decoding one."""
    data = a_song_with(video)
    with av.open(BytesIO(data)) as unguarded:
        assert unguarded.streams.video[0].codec_context.pix_fmt
    (part,) = parts_of(BytesIO(data), "matroska")
    with closing(open_part(part, "matroska")) as opened:
        assert opened.container.streams.video[0].codec_context.pix_fmt is None
    assert accepted(data).samples == SAMPLE_RATE


def test_a_codec_that_no_song_is_made_with_is_refused() -> None:
    buffer = BytesIO()
    with av.open(buffer, "w", format="wav") as output:
        stream: Any = output.add_stream("adpcm_yamaha", rate=SAMPLE_RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray((SONG * 9_999).astype(np.int16).T.reshape(1, -1).copy(), "s16", "stereo")
        frame.sample_rate = SAMPLE_RATE
        output.mux([*stream.encode(frame), *stream.encode(None)])
    assert code_of(buffer.getvalue()) == "undecodable"


@pytest.mark.parametrize(
    "data",
    [
        b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256),
        b"ID3\x04\x00\x00\x00\x00\x00\x00" * 10_000,
        encode("mp3", SONG)[:600],
        encode("mp3", music(100))[:10],
    ],
    ids=["ID3 only", "many ID3", "cut in the first frame", "cut in the first header"],
)
def test_a_song_without_a_single_frame_is_refused(data: bytes) -> None:
    assert code_of(data) in ("no_audio_frames", "undecodable")


@pytest.mark.parametrize("size", [300, 200_000, 3_000_000])
def test_junk_behind_a_tag_is_no_song(size: int) -> None:
    assert code_of(b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256) + noise(size)) in ("no_audio_frames", "undecodable")


def test_the_length_in_a_header_is_not_believed() -> None:
    lying_wav = wav((SONG * 32_767).astype(np.int16), claimed_bytes=4 * SAMPLE_RATE * 180)
    assert accepted(lying_wav).samples == SONG.shape[1]
    mp3 = encode("mp3", SONG)
    frames_at = mp3.index(b"Info") + 8
    lying_mp3 = mp3[:frames_at] + struct.pack(">I", 6_900) + mp3[frames_at + 4 :]
    info = accepted(lying_mp3)
    assert abs(info.duration_seconds - 4) < 0.1
    assert "ends early: 4.0 s of 180" in info.warnings[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    broken = SONG.copy()
    broken[1, 100_000] = value
    assert code_of(wav(broken)) == "bad_samples"


def test_a_file_of_many_streams_is_refused() -> None:
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        streams = [output.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono") for _ in range(1_000)]
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 100), np.int16), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        output.mux(streams[0].encode(frame))
    assert code_of(buffer.getvalue()) == "too_many_streams"


def test_streams_that_are_no_sound_are_as_many_as_they_like() -> None:
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        for number in range(20):
            output.add_attachment(f"font{number}.ttf", "application/x-truetype-font", noise(100))
        frame = av.AudioFrame.from_ndarray((music(SAMPLE_RATE, channels=1) * 9_999).astype(np.int16), "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        output.mux([*stream.encode(frame), *stream.encode(None)])
    assert (accepted(buffer.getvalue()).samples, accepted(buffer.getvalue()).warnings) == (SAMPLE_RATE, ())


def test_a_second_audio_stream_is_left_out_with_a_warning() -> None:
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        streams = [output.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono") for _ in range(2)]
        frame = av.AudioFrame.from_ndarray((music(SAMPLE_RATE, channels=1) * 9_999).astype(np.int16), "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        for stream in streams:
            output.mux([*stream.encode(frame), *stream.encode(None)])
    assert accepted(buffer.getvalue()).warnings == ("only the first of 2 audio streams was read",)


def test_an_m4a_whose_samples_lie_in_another_file_is_refused() -> None:
    data = bytearray(encode("m4a", SONG))
    reference = data.index(b"url ", data.index(b"dref"))
    data[reference + 4 : reference + 8] = bytes(4)  # clears "the samples are in this file"
    assert code_of(bytes(data)) == "external_reference"


def test_a_video_without_sound_has_no_audio_frames() -> None:
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        output.mux([*stream.encode(frame), *stream.encode(None)])
    assert code_of(buffer.getvalue()) == "no_audio_frames"


def test_a_song_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(AudioError) as caught:
        measure(tmp_path / "none.mp3")
    assert caught.value.code == "unreadable"


def test_no_input_of_random_damage_raises_anything_but_our_errors() -> None:
    rng = np.random.default_rng(3)
    for kind in ENCODINGS:
        sample_rate = 48_000 if kind in ("opus", "webm") else SAMPLE_RATE
        good = encode(kind, music(sample_rate), sample_rate=sample_rate)
        for _ in range(20):
            data = bytearray(good)
            for position in rng.integers(0, len(data), 8):
                data[position] = rng.integers(256)
            with suppress(AudioError):
                measure(BytesIO(bytes(data[: rng.integers(1, len(data))])), max_seconds=60)
