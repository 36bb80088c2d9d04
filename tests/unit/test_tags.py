"""The title, artist and cover of a song are in its stems; whatever is wrong with them costs nothing but them."""

import base64
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from av.stream import Disposition

from audio_files import FORMATS, decoded, encode, film, music, ogg_vorbis, png
from stem_delivery import delivered
from unmix.audio.confined_reader import confined_tags, tag_reader_of
from unmix.audio.encode import StemWriter
from unmix.audio.formats import STEM_MP4
from unmix.audio.tags import MOST_COVER_BYTES, NO_TAGS, Tags, tags_of

TEXTS: dict[str, Any] = {
    "title": "Söng № 1",
    "artist": "Ärtist & Co; 山田",
    "album": "An Album",
    "album_artist": "Various",
    "date": "2001-02-03",
    "genre": "Techno",
    "track": "3/12",
}


COVER = png(200_000)  # longer than what a player reads to know a file by, and than a page of Ogg
#: As much of a JPEG as says how large it is, and more.
JPEG = bytes.fromhex("ffd8 ffe0 0010 4a46494600010100000100010000 ffff c0 0011 08 0003 0005 03") + bytes(range(255))


def found_in(file: Path | BytesIO) -> tuple[dict[str, str], list[bytes]]:
    """Return tags and covers as a player that knows nothing of us finds them."""
    with av.open(file, "r") as opened:
        stream = opened.streams.audio[0]
        texts = {name.lower(): text for name, text in {**stream.metadata, **opened.metadata}.items()}
        pictures = [each for each in opened.streams.video if each.disposition & Disposition.attached_pic]
        packets = zip(pictures, opened.demux(pictures), strict=False) if pictures else ()
        return {name: texts[name] for name in TEXTS if name in texts}, [bytes(packet) for _, packet in packets]


def write(path: Path, format: str, tags: Tags = NO_TAGS) -> Path:
    writer = StemWriter(path, format=format, tags=tags)
    writer.write(music(100_001))
    writer.close()
    return path


# What stems carry


@pytest.mark.parametrize("cover", [COVER, JPEG, b""], ids=["png", "jpeg", "no cover"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_stem_of_any_format_has_the_tags_and_not_one_other_sample(format: str, cover: bytes, tmp_path: Path) -> None:
    plain, tagged = write(tmp_path / "plain", format), write(tmp_path / "tagged", format, Tags(TEXTS, cover))
    texts, covers = found_in(tagged)
    if format == "wav":  # RIFF has no word for it, and no pictures
        assert (texts, covers) == ({name: TEXTS[name] for name in TEXTS if name != "album_artist"}, [])
    else:
        assert (texts, covers) == (TEXTS, [cover] if cover else [])
    assert np.array_equal(decoded(tagged), decoded(plain))
    if format != "m4a":  # libsndfile reads none
        assert np.array_equal(soundfile.read(tagged)[0], soundfile.read(plain)[0])
    assert write(tmp_path / "again", format, Tags(TEXTS, cover)).read_bytes() == tagged.read_bytes()


@pytest.mark.parametrize("format", ["opus", "ogg"])
def test_the_comment_with_a_cover_says_how_large_and_how_deep_it_is(format: str, tmp_path: Path) -> None:
    data = write(tmp_path / "stem", format, Tags(TEXTS, JPEG)).read_bytes()
    (encoded,) = re.findall(rb"METADATA_BLOCK_PICTURE=([\w+/]+=*)", data)
    width, height, depth, colours = struct.unpack_from(">4I", base64.b64decode(encoded), 22)
    assert (width, height, depth, colours) == (5, 3, 24, 0)


def test_a_stem_mp4_is_tagged_as_its_song_and_has_five_tracks_all_the_same(tmp_path: Path) -> None:
    made = []
    for name, tags in (("plain", NO_TAGS), ("tagged", Tags(TEXTS, COVER))):
        stems = {stem: music(100_001) for stem in ("a", "b", "c", "d")}
        made.append(delivered(tmp_path / name, stems, format=STEM_MP4, tags=tags).stems["stems"])
    assert found_in(made[1]) == (TEXTS, [COVER])
    assert np.array_equal(decoded(made[1]), decoded(made[0]))
    with av.open(made[1]) as opened:
        assert len(opened.streams.audio) == 5
    assert b'"name":"A"' in made[1].read_bytes()


def test_the_title_of_a_stem_says_which_one_it_is() -> None:
    assert Tags({"title": "Song", "artist": "X"}, JPEG).of_stem("no_vocals") == Tags(
        {"title": "Song (no vocals)", "artist": "X"}, JPEG
    )
    assert Tags({"artist": "X"}).of_stem("vocals") == Tags({"artist": "X"})


# What is read of songs


def id3(*frames: tuple[bytes, bytes]) -> bytes:
    """An ID3v2.3 tag, whose sizes are not those of 2.4."""
    content = b"".join(struct.pack(">4sIH", name, len(data), 0) + data for name, data in frames)
    return b"ID3\3\0\0" + bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0)) + content


def picture(cover: bytes, kind: int = 3, mime: bytes = b"image/png") -> tuple[bytes, bytes]:
    return b"APIC", b"\0" + mime + b"\0" + bytes([kind]) + b"\0" + cover


def flac_picture(cover: bytes) -> bytes:
    return struct.pack(">2I9s20xI", 3, 9, b"image/png", len(cover)) + cover


def an_mp3(*frames: tuple[bytes, bytes]) -> bytes:
    song = encode("mp3", music(50_000))
    return id3(*frames) + song[song.index(b"Info") - 36 :]


def a_flac() -> bytes:
    song = encode("flac", music(50_000), **TEXTS)
    block = flac_picture(COVER)
    return song[:42] + b"\x06" + len(block).to_bytes(3, "big") + block + song[42:]


def an_m4a() -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        output.metadata.update(TEXTS)
        sound: Any = output.add_stream("aac", rate=44_100, layout="stereo")
        cover = output.add_mux_stream("png", width=2, height=2)
        cover.disposition = Disposition.attached_pic
        packet = av.Packet(COVER)
        packet.stream, packet.pts, packet.dts, packet.time_base = cover, 0, 0, Fraction(1)
        output.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(music(50_000)), "fltp", "stereo")
        frame.sample_rate, frame.pts = 44_100, 0
        for each in [*sound.encode(frame), *sound.encode(None)]:
            output.mux(each)
    return buffer.getvalue()


def an_mkv() -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        output.metadata.update(TEXTS)
        sound: Any = output.add_stream("flac", rate=44_100, layout="stereo")
        sound.metadata["title"] = "Stereo"
        output.add_attachment("cover.png", "image/png", COVER)
        frame = av.AudioFrame.from_ndarray(np.rint(music(50_000).T.reshape(1, -1) * 32_767).astype(np.int16), "s16")
        frame.sample_rate, frame.pts = 44_100, 0
        for each in [*sound.encode(frame), *sound.encode(None)]:
            output.mux(each)
    return buffer.getvalue()


UTF16 = "utf-16"
SONGS: dict[str, Callable[[], bytes]] = {
    "mp3": lambda: an_mp3(
        *((name, b"\1" + TEXTS[tag].encode(UTF16)) for tag, name in (("title", b"TIT2"), ("artist", b"TPE1"))),
        *(
            (name, b"\0" + TEXTS[tag].encode("latin-1"))
            for tag, name in (("album", b"TALB"), ("album_artist", b"TPE2"))
        ),
        *((name, b"\0" + text) for name, text in ((b"TYER", b"2001"), (b"TDAT", b"0302"), (b"TCON", b"(18)Techno"))),
        *((b"TRCK", b"\0003/12"), picture(JPEG, kind=4), picture(COVER)),
    ),
    "flac": a_flac,
    "m4a": an_m4a,
    "opus": lambda: encode(
        "opus",
        music(50_000),
        sample_rate=48_000,
        **TEXTS,
        METADATA_BLOCK_PICTURE=base64.b64encode(flac_picture(COVER)).decode(),
    ),
    "mkv": an_mkv,
}


@pytest.mark.parametrize("kind", SONGS)
def test_tags_and_the_cover_of_a_song_are_read_within_walls_and_without(kind: str, tmp_path: Path) -> None:
    song = tmp_path / "song"
    song.write_bytes(SONGS[kind]())
    tags = tags_of(song)
    found = dict(tags.texts)
    if kind == "mp3":  # that has it as `(18)Techno`
        found["genre"] = found["genre"].removeprefix("(18)")
    assert found == TEXTS
    assert tags.cover == COVER
    assert confined_tags(song) == tags


@pytest.mark.parametrize("kind", ["aiff", "wma", "wv", "tta"])
def test_other_kinds_of_songs_have_a_title(kind: str) -> None:
    assert tags_of(BytesIO(encode(kind, music(50_000), title="Söng"))).texts["title"] == "Söng"


def test_a_tag_behind_the_frames_of_an_mp3_is_read() -> None:
    behind = b"TAG" + b"Old".ljust(30, b"\0") + b"Anybody".ljust(30, b"\0") + bytes(65)
    assert dict(tags_of(BytesIO(an_mp3() + behind)).texts) == {"title": "Old", "artist": "Anybody", "genre": "Blues"}


def test_songs_without_tags_have_none_and_the_title_of_a_track_of_a_film_is_not_that_of_the_film() -> None:
    assert tags_of(BytesIO(film(0, container="matroska"))) == NO_TAGS
    assert tags_of(BytesIO(ogg_vorbis(music(50_000)))) == NO_TAGS


# What strangers send


def title(data: bytes) -> tuple[bytes, bytes]:
    return b"TIT2", b"\3" + data


HOSTILE: dict[str, tuple[Callable[[], bytes], Tags]] = {
    "control characters": (
        lambda: an_mp3(title(b"\x1b]0;a\x07 \r\nX-Header: b\xe2\x80\xa8c\xc2\x9bd")),
        Tags({"title": "]0;a X-Header: b c d"}),
    ),
    "no UTF-8": (lambda: an_mp3(title(b"a\xff\xfeb\xed\xa0\x80")), Tags({"title": "a\ufffd\ufffdb\ufffd\ufffd\ufffd"})),
    "megabytes of title": (lambda: an_mp3(title(b"ab " * 3_000_000)), Tags({"title": ("ab " * 100).strip()})),
    "thousands of fields": (
        lambda: an_mp3(*((b"TXXX", b"\0%d\0b" % field) for field in range(3_000)), title(b"T")),
        Tags({"title": "T"}),
    ),
    "nothing but blanks": (lambda: an_mp3(title(b" \t\n")), NO_TAGS),
    "a date and a number that are none": (
        lambda: an_mp3((b"TYER", b"\0last"), (b"TRCK", b"\0../1"), title(b"T")),
        Tags({"title": "T"}),
    ),
    "a cover that is no picture": (lambda: an_mp3(title(b"T"), picture(b"<script>" * 9)), Tags({"title": "T"})),
    "a cover that is a link": (
        lambda: an_mp3(title(b"T"), picture(b"http://127.0.0.1/x.png", mime=b"-->")),
        Tags({"title": "T"}),
    ),
    "a cover that is a picture of another kind": (
        lambda: an_mp3(title(b"T"), picture(JPEG, mime=b"image/gif")),
        Tags({"title": "T"}, JPEG),
    ),
    "a cover that is too large": (
        lambda: an_mp3(title(b"T"), picture(png(MOST_COVER_BYTES))),
        Tags({"title": "T"}),
    ),
    "a cover without an end": (lambda: an_mp3(title(b"T"), picture(JPEG[:20])), Tags({"title": "T"})),
    "a cover of nothing but markers": (
        lambda: an_mp3(title(b"T"), picture(b"\xff\xd8" + bytes([255]) * 5_000 + JPEG[2:])),
        Tags({"title": "T"}),
    ),
    "a cover of billions of pixels": (
        lambda: an_mp3(title(b"T"), picture(png().replace(b"\0\0\0\2", b"\x7f\xff\xff\xff"))),
        Tags({"title": "T"}),
    ),
    "a tag that is longer than its file": (lambda: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + an_mp3(title(b"T")), NO_TAGS),
    "no song": (lambda: b"no song" * 1_000, NO_TAGS),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_is_wrong_with_tags_costs_nothing_but_them(kind: str, tmp_path: Path) -> None:
    make, expected = HOSTILE[kind]
    song = tmp_path / "song"
    song.write_bytes(make())
    assert tags_of(song) == confined_tags(song) == expected


def test_a_tag_that_would_fill_the_memory_costs_nothing_but_tags(tmp_path: Path) -> None:
    song = tmp_path / "song.mp3"
    with song.open("wb") as file:
        file.write(b"ID3\4\0\0\x7f\x7f\x7f\x7f")  # 256 MiB, with nothing in them as far as the disk goes
        file.write(b"TIT2\x7f\x7f\x7f\x6b\0\0\3")
        file.seek(10 + (1 << 28) - 1)
        file.write(encode("mp3", music(50_000)))
    assert confined_tags(song) in (NO_TAGS, Tags({"title": "\ufffd"}))


@pytest.mark.parametrize(
    "said",
    [b"", b"{", b"[" * 5_000, b"[]\n", b'{"title": {"a": 1}, "other": "x"}\nGIF89a', b'{"title": "\\ud800\\u0000"}\n'],
)
def test_what_has_taken_the_reader_over_says_nothing_that_is_no_tag(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmix.audio.confined_reader._started", lambda *_: Said(said))
    tags = confined_tags(tmp_path / "song")
    assert tags.texts.keys() <= {"title"}
    assert (tags.cover, "\ud800" in tags.texts.get("title", "")) == (b"", False)


class Said:
    """A process that has said something."""

    def __init__(self, said: bytes) -> None:
        self.stdout = BytesIO(said)

    def __enter__(self) -> "Said":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def kill(self) -> None:
        pass


def test_tags_are_read_by_a_process_of_their_own_unless_nothing_is_shut_in() -> None:
    assert tag_reader_of("off") is tags_of
    assert tag_reader_of("require") is not tags_of
