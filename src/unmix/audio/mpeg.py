"""What an mp3 file says around its frames: how many there are, and the tags that players keep behind them.

FFmpeg takes such tags for broken frames, and then no longer believes how many frames there are, nor how much of the
last is padding. So decoders see a file that ends with its frames. `unmix.audio.sniff` asks here what a frame is.
"""

import os
import struct
from typing import BinaryIO, Final

_BITRATES_KBPS: Final = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES: Final = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}

#: No frame of any MPEG audio is longer.
_MAX_FRAME_BYTES: Final = 2_881
_MAX_TAGS: Final = 16
_LYRICS1_BYTES: Final = 5_200  # with all that is around them


def id3_size(head: bytes) -> int:
    """Return the length in bytes of the ID3v2 tag at the beginning of `head`, 0 if there is none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)


def frame_size(header: bytes) -> int:
    """Return the size in bytes of the MPEG audio frame with this header, 0 if it is no such header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate_index, rate_index = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate_index in (0, 15) or rate_index == 3:
        return 0
    bitrate = 1000 * _BITRATES_KBPS[1 if version == 3 else 2, layer][bitrate_index - 1]
    sample_rate, padding = _SAMPLE_RATES[version][rate_index], header[2] >> 1 & 1
    if layer == 1:
        return (12 * bitrate // sample_rate + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bitrate // sample_rate + padding


def promised_seconds(file: BinaryIO) -> float:
    """Return how long an mp3 is as its Xing, Info or VBRI frame says; 0 if it has none, or no number in it."""
    file.seek(0)
    file.seek(id3_size(file.read(10)))
    head = file.read(_MAX_FRAME_BYTES).ljust(64, b"\0")  # the file may end within the frame
    for mark in (b"Xing", b"Info", b"VBRI"):
        at = head.find(mark)
        start = at - (36 if mark == b"VBRI" else 4 + _side_bytes(head[:4]))
        if at < 0 or start != 0 or not frame_size(head[:4]):
            continue
        flags, *_ = struct.unpack_from(">I", head, at + 4)
        if mark != b"VBRI" and not flags & 1:
            continue
        (frames,) = struct.unpack_from(">I", head, at + (14 if mark == b"VBRI" else 8))
        version, rate_index = head[1] >> 3 & 3, head[2] >> 2 & 3
        return float(frames * (1152 if version == 3 else 576) / _SAMPLE_RATES[version][rate_index])
    return 0.0


def frames_end(file: BinaryIO) -> int:
    """Return where the tags and the silence of zeros behind the last frame begin; never within a frame."""
    end = file.seek(0, os.SEEK_END)
    for _ in range(_MAX_TAGS):
        tag_bytes = _last_tag_bytes(file, end)
        if not 0 < tag_bytes <= end:
            break
        end -= tag_bytes
    # A frame may end in zeros of its own.
    return min(end, _behind_last_byte(file, end) + _MAX_FRAME_BYTES)


def _side_bytes(header: bytes) -> int:
    """Return how long the side information behind this header is."""
    is_mono = len(header) == 4 and header[3] >> 6 == 3
    if len(header) == 4 and header[1] >> 3 & 3 == 3:
        return 17 if is_mono else 32
    return 9 if is_mono else 17


def _last_tag_bytes(file: BinaryIO, end: int) -> int:
    """Return the length of the tag that ends at `end`, 0 if there is none that is known."""
    begin = max(0, end - _LYRICS1_BYTES)
    file.seek(begin)
    tail = file.read(end - begin)
    if tail[-128:-125] == b"TAG":  # ID3v1
        return 128
    if tail[-32:-24] == b"APETAGEX":
        size, _, flags = struct.unpack("<3I", tail[-20:-8])
        return int(size) + (32 if flags & 1 << 31 else 0)
    if tail.endswith(b"LYRICS200") and tail[-15:-9].isdigit():  # Lyrics3 v2
        return int(tail[-15:-9]) + 15
    if tail.endswith(b"LYRICSEND") and (at := tail.rfind(b"LYRICSBEGIN")) >= 0:  # Lyrics3 v1
        return len(tail) - at
    if tail[-10:-7] == b"3DI":  # ID3v2 at the end
        return id3_size(b"ID3" + tail[-7:]) + 10
    return 0


def _behind_last_byte(file: BinaryIO, end: int) -> int:
    """Return where the zeros that end at `end` begin."""
    while end > 0:
        begin = max(0, end - (1 << 16))
        file.seek(begin)
        block = file.read(end - begin).rstrip(b"\0")
        if block:
            return begin + len(block)
        end = begin
    return 0
