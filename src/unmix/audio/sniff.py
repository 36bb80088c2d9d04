"""What the bytes are: the container of a song, told from its first bytes before any decoder sees them.

Owns the list of accepted containers and two looks into headers that FFmpeg does not report: WAV files with an
impossible rate or missing data, and MP4 files whose samples lie in another file. Decodes nothing:
`unmix.audio.decoding` does, with exactly the demuxer that was found here. File names are never consulted.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from unmix.audio.mpeg import frame_size, id3_size

#: As many bytes as `sniff` wants: three of the longest MPEG frames and the junk before them.
HEAD_BYTES: Final = 16_384

_MP4_BOXES: Final = (b"ftyp", b"moov", b"mdat")
_MP4_FILLERS: Final = (b"wide", b"free", b"skip")  # words that a text may begin with, too
_W64_GUID: Final = bytes.fromhex("726966662e91cf11a5d628db04c10000")

#: What begins a file of each kind, with as much of its header as no text has.
_MAGICS: Final = (
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (_W64_GUID, "w64"),
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"caff\0\1", "caf"),
    (b".snd\0\0", "au"),
    (b"TTA1\1\0", "tta"),
    (b"FLV\x01", "flv"),
    (b"\x00\x00\x01\xba", "mpeg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),  # wma, wmv
)

_AC3_BITRATES_KBPS: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)

#: Media that some decoder could read and we refuse: playlists and scripts open other files.
_REFUSED_MEDIA: Final = (
    b"RIFF",  # WAV and AVI are told apart before
    b"#EXTM3U",
    b"ffconcat",
    b"v=0",  # SDP
    b"[playlist]",
    b".RMF",
)
#: Files that may hold the frames of a song somewhere inside and are no song.
_OTHER_FILES: Final = (
    b"PK",
    b"%PDF",
    b"\x7fELF",
    b"MZ",
    b"\x1f\x8b",
    b"Rar!",
    b"7z\xbc\xaf",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"<",
)


def sniff(head: bytes) -> str | None:
    """Name the container that a file beginning with `head` has; None if it is none that we take.

    The names are `mp3 aac ac3 eac3 flac ogg wav w64 aiff mp4 matroska caf au tta wv avi flv mpeg mpegts asf`. `head`
    should have `HEAD_BYTES` bytes, or be the file.
    """
    if tag_size := id3_size(head):
        behind = head[tag_size:]
        # Whether frames follow is for the decoder to find, and of a chain of tags we follow no link.
        return "mp3" if behind[:3] == b"ID3" else sniff(behind) or "mp3"
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "wav"
    # A playlist in place of its headers would be read as one, by some.
    if head[:4] == b"RIFF" and head[8:16] == b"AVI LIST":
        return "avi"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] in _MP4_BOXES or (head[:1] == b"\0" and head[4:8] in _MP4_FILLERS):
        return "mp4"
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    if head[:4] == b"wvpk" and head[9:10] == b"\x04":  # the version of every block since 2004
        return "wv"
    if all(head[at : at + 1] == b"G" for at in (0, 188, 376)):
        return "mpegts"
    if is_refused_media(head) or head.startswith(_OTHER_FILES):
        return None
    return _sniff_frames(head)


def is_refused_media(head: bytes) -> bool:
    """Tell whether a file beginning with `head` is media, or a playlist, of a kind that we do not open."""
    return head.startswith(_REFUSED_MEDIA)


def _sniff_frames(head: bytes) -> str | None:
    """Find frames of one kind that follow each other: at the very beginning two, after junk or a cut three."""
    for start in range(max(0, len(head) - 4)):
        for name, length_of in _FRAME_SIZES.get(head[start], ()):
            position, frames = start, 0
            while frames < 3 and (size := length_of(head[position : position + 6])):
                position, frames = position + size, frames + 1
            cut = start == 0 and frames > 0 and position >= len(head) - 6
            if frames >= (2 if start == 0 else 3) or cut:
                return name
    return None


def _adts_frame_size(header: bytes) -> int:
    """Return the size in bytes of the ADTS frame with this header, 0 if it is no such header."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if size > 7 else 0


def _ac3_frame_size(header: bytes) -> int:
    """Return the size in bytes of the AC-3 frame with this header, 0 if it is no such header."""
    if len(header) < 6 or header[:2] != b"\x0b\x77" or header[5] >> 3 > 10:
        return 0
    rate_index, size_index = header[4] >> 6, header[4] & 63
    if rate_index == 3 or size_index >= 2 * len(_AC3_BITRATES_KBPS):
        return 0
    bitrate = _AC3_BITRATES_KBPS[size_index >> 1]
    odd = size_index & 1 if rate_index == 1 else 0  # at 44.1 kHz frames differ by a word
    return 2 * (bitrate * 96_000 // (48_000, 44_100, 32_000)[rate_index] + odd)


def _eac3_frame_size(header: bytes) -> int:
    """Return the size in bytes of the E-AC-3 frame with this header, 0 if it is no such header."""
    if len(header) < 6 or header[:2] != b"\x0b\x77" or not 10 < header[5] >> 3 <= 16:
        return 0
    return 2 * (((header[2] & 7) << 8 | header[3]) + 1)


#: By the first byte of a frame: what it may be, and how long it is then.
_FRAME_SIZES: Final = {
    0xFF: (("mp3", frame_size), ("aac", _adts_frame_size)),
    0x0B: (("ac3", _ac3_frame_size), ("eac3", _eac3_frame_size)),
}


#: Codecs of which a WAV file says how many bytes a second has: PCM, floating point, A-law, µ-law, and the form that
#: names one of these elsewhere. Others, such as ADPCM, have a figure there that may be anything.
_WAV_CODECS: Final = (1, 3, 6, 7, 0xFFFE)


class WavHeader(NamedTuple):
    """What a WAV file says about itself, true or not."""

    sample_rate: int  # Hz
    seconds: float  # 0 if unknown


def read_wav_header(file: BinaryIO) -> WavHeader | None:
    """Read the header of a WAV file; None if it has no `fmt ` chunk before its samples."""
    codec = sample_rate = bytes_per_second = 0
    position = 12
    for _ in range(1000):  # a file made of empty chunks must not cost more than this
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return None
        name, length = header[:4], struct.unpack("<I", header[4:])[0]
        if name == b"fmt " and len(fields := file.read(12)) == 12:
            codec, sample_rate, bytes_per_second = struct.unpack("<H2xII", fields)
        if name == b"data":
            # 0 and the maximum are written by streams, and by RF64, whose length stands elsewhere.
            known = codec in _WAV_CODECS and bytes_per_second and length not in (0, 0xFFFFFFFF)
            return WavHeader(sample_rate, length / bytes_per_second if known else 0.0)
        position += 8 + length + length % 2
    return None


def has_external_reference(file: BinaryIO) -> bool:
    """Tell whether an MP4 or QuickTime file has its samples, or claims to have them, in another file."""
    size_bytes = file.seek(0, os.SEEK_END)
    for start, end in _boxes(file, 0, size_bytes, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")):
        # After version, flags and count come the references, boxes too; flag 1 of each: "the samples are in this file".
        for _, content, _ in _children(file, start + 8, end):
            file.seek(content)
            flags = file.read(4)
            if len(flags) == 4 and not flags[3] & 1:
                return True
    return False


def _boxes(file: BinaryIO, start: int, end: int, path: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Yield where the content of every box at `path` begins and ends."""
    for name, content, box_end in _children(file, start, end):
        if name == path[0]:
            if len(path) == 1:
                yield content, box_end
            else:
                yield from _boxes(file, content, box_end, path[1:])


def _children(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, begin and end of the content of every box between two positions, at most a thousand."""
    for _ in range(1000):
        file.seek(start)
        header = file.read(16)
        if start + 8 > end or len(header) < 8:
            return
        size, name, content = struct.unpack(">I", header[:4])[0], header[4:8], start + 8
        if size == 1 and len(header) == 16:
            size, content = struct.unpack(">Q", header[8:])[0], start + 16
        box_end = end if size == 0 else min(start + size, end)
        if box_end < content:
            return
        yield name, content, box_end
        start = box_end
