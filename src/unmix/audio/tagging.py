"""Tags as the formats of stems have them: an ID3 tag before an mp3, comments in Vorbis, and what FFmpeg is told.

What cannot be said in a format is left out: wav has neither a cover nor an album's artist.
"""

import base64
import struct
from fractions import Fraction
from typing import Any, Final

import av
from av.stream import Disposition

from unmix.audio.formats import STEM_MP4
from unmix.audio.pictures import Picture, picture_of
from unmix.audio.tags import Tags

#: Frames of ID3v2.4 ("ID3 tag version 2.4.0 - Native Frames", https://id3.org).
_ID3_FRAMES: Final = {
    "title": b"TIT2",
    "artist": b"TPE1",
    "album": b"TALB",
    "album_artist": b"TPE2",
    "date": b"TDRC",
    "genre": b"TCON",
    "track": b"TRCK",
}
_ID3_UTF8: Final = b"\3"
_FRONT_COVER: Final = 3  # in ID3 as in FLAC
#: Comments of Vorbis that are not the name in capitals.
_COMMENTS: Final = {"album_artist": "ALBUMARTIST", "track": "TRACKNUMBER"}
#: The comment, of Opus too (RFC 7845, section 5.2), in which a picture is text.
_PICTURE_COMMENT: Final = "METADATA_BLOCK_PICTURE"
#: Formats in which FFmpeg takes a cover for a stream of one picture, and its names of pictures.
_WITH_PICTURES: Final = ("flac", "m4a", STEM_MP4)
_PICTURE_CODECS: Final = {"image/jpeg": "mjpeg", "image/png": "png"}


def id3_of(tags: Tags) -> bytes:
    """Return tags as ID3v2.4; nothing if there are none."""
    frames = b"".join(_id3_frame(_ID3_FRAMES[name], _ID3_UTF8 + text.encode()) for name, text in tags.texts.items())
    if picture := picture_of(tags.cover):
        kind = picture.media_type.encode()
        about = struct.pack(f">x{len(kind)}sxBx", kind, _FRONT_COVER)
        frames += _id3_frame(b"APIC", about + tags.cover)
    return b"ID3\4\0\0" + _synchsafe(len(frames)) + frames if frames else b""


def comments_of(tags: Tags) -> bytes:
    """Return tags as a list of Vorbis's comments ("Vorbis I specification", section 5)."""
    comments = {_COMMENTS.get(name, name.upper()): text for name, text in tags.texts.items()}
    if picture := picture_of(tags.cover):
        comments[_PICTURE_COMMENT] = _picture_comment(picture, tags.cover)
    encoded = [f"{name}={text}".encode() for name, text in comments.items()]
    return struct.pack("<I", len(encoded)) + b"".join(struct.pack("<I", len(each)) + each for each in encoded)


def tag(output: Any, tags: Tags, format: str) -> None:
    """Tell PyAV's `output` the tags; all of its streams have to be there, and nothing of them written."""
    output.metadata.update(tags.texts)
    picture = picture_of(tags.cover)
    if picture is None:
        return
    if format == "opus":
        output.metadata[_PICTURE_COMMENT] = _picture_comment(picture, tags.cover)
    elif format in _WITH_PICTURES:
        codec = _PICTURE_CODECS[picture.media_type]
        stream = output.add_mux_stream(codec, width=picture.width, height=picture.height)
        stream.disposition = Disposition.attached_pic
        packet = av.Packet(tags.cover)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1)
        packet.is_keyframe = True
        output.mux(packet)


def _id3_frame(name: bytes, content: bytes) -> bytes:
    return name + _synchsafe(len(content)) + b"\0\0" + content


def _synchsafe(size: int) -> bytes:
    """Return a size in four bytes of which no bit is the highest."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _picture_comment(picture: Picture, cover: bytes) -> str:
    """Return a cover as FLAC's block of a picture has it (RFC 9639, section 8.8)."""
    kind = picture.media_type.encode()
    facts = (_FRONT_COVER, len(kind), kind, picture.width, picture.height, picture.depth, len(cover))
    return base64.b64encode(struct.pack(f">2I{len(kind)}s4x3I4xI", *facts) + cover).decode()
