"""mp3 files that decode to exactly the samples encoded: LAME's frames behind an Info frame.

An mp3 encoder puts silence before the samples and fills the last frame with more. The Info frame, the first of all,
says how much of both players have to cut off. LAME comes from `lameenc`, which takes a third of the time of the one in
PyAV's wheels, but leaves that frame to its caller. Layout: "Mp3 Info Tag rev 1 specifications",
http://gabriel.mp3-tech.org/mp3infotag.html.
"""

import struct
from functools import cache
from typing import BinaryIO, Final

import lameenc
import numpy as np
from numpy.typing import NDArray

from unmix.audio.formats import BITRATES_KBPS
from unmix.audio.samples import SAMPLE_RATE

_FRAME_SAMPLES: Final = 1152
#: Samples of silence that LAME puts first; decoders know that they add 529 more.
_ENCODER_DELAY: Final = 576
#: What LAME 3.100 multiplies its input by at each bit rate, so that decoders clip less.
_BIT_RATES: Final = dict.fromkeys(BITRATES_KBPS, 0.95) | {192: 0.97, 224: 0.98, 256: 1.0, 320: 1.0}
#: kbit/s from which a frame has room for the Info tag.
_MIN_INFO_RATE: Final = 64


class Mp3Encoder:
    """Encode 16-bit stereo at 44.1 kHz into `file`, at the bit rate of the format nearest to the asked one.

    It begins where the file is, which may be behind tags.
    The samples keep their level: what LAME takes away below 256 kbit/s is added before. Only peaks for which that
    leaves no room, the last 5 % of full scale (at 192 kbit/s 3 %), are cut, by at most what LAME would have taken.
    `quality` is LAME's: 0 takes longest, 9 is the worst. What `file` raises is passed on.
    """

    def __init__(self, file: BinaryIO, *, bitrate_kbps: int, quality: int) -> None:
        self._file = file
        self._bitrate_kbps = min(_BIT_RATES, key=lambda rate: abs(rate - bitrate_kbps))
        self._quality = quality
        self._info_rate = max(self._bitrate_kbps, _MIN_INFO_RATE)
        self._info_bytes = int(_mean_frame_bytes(self._info_rate))
        self._scale = _BIT_RATES[self._bitrate_kbps]
        self._samples = 0
        self._audio_bytes = 0
        self._audio_crc = 0
        self._lame = lameenc.Encoder()
        self._lame.silence()
        self._lame.set_channels(2)
        self._lame.set_in_sample_rate(SAMPLE_RATE)
        self._lame.set_out_sample_rate(SAMPLE_RATE)
        self._lame.set_bit_rate(self._bitrate_kbps)
        self._lame.set_quality(quality)
        self._start = file.tell()  # behind tags
        file.write(bytes(self._info_bytes))  # its room: what it says is known at the end

    def write(self, pcm: NDArray[np.int16]) -> None:
        """Append `pcm`: (2, time)."""
        self._samples += pcm.shape[1]
        louder = np.rint(pcm.T / self._scale).clip(-32_768, 32_767)
        self._append(self._lame.encode(louder.astype("<i2").tobytes()))

    def finish(self) -> None:
        """Encode what is left and put the Info frame in front; `file` stays open."""
        self._append(self._lame.encode(b""))  # LAME is not ready for its flush before a first call
        self._append(self._lame.flush())
        self._file.seek(self._start)
        self._file.write(self._info_frame())

    def _append(self, frames: bytes) -> None:
        self._file.write(frames)
        self._audio_bytes += len(frames)
        self._audio_crc = crc16(frames, self._audio_crc)

    def _info_frame(self) -> bytes:
        """Return a frame of silence that tells how to play the frames behind it."""
        frames = round(self._audio_bytes / _mean_frame_bytes(self._bitrate_kbps))
        padding = frames * _FRAME_SAMPLES - _ENCODER_DELAY - self._samples
        file_bytes = self._info_bytes + self._audio_bytes
        rate_index = list(_BIT_RATES).index(self._info_rate) + 1
        tag = struct.pack(
            ">4s 32x 4s 3I 100s I 9s B 10x B 3s B 3x I H",
            bytes((0xFF, 0xFB, rate_index << 4, 0x44)),  # 44.1 kHz, joint stereo, original
            b"Info",
            0b1111,  # the next four fields are there
            frames,
            file_bytes,
            bytes(256 * percent // 100 for percent in range(100)),  # where to seek: as the bit rate is constant
            60 - self._quality,  # LAME's scale of 0 to 100, on which its quality moves the last digit
            b"LAME3.100",
            1,  # revision 0 of the tag, constant bit rate; then what is not known: lowpass, peak, gains, flags
            min(self._bitrate_kbps, 255),
            (_ENCODER_DELAY << 12 | padding).to_bytes(3, "big"),
            0b01_0_011_00,  # the source had 44.1 kHz, joint stereo; then no gain, no preset
            file_bytes,
            self._audio_crc,
        )
        return (tag + struct.pack(">H", crc16(tag))).ljust(self._info_bytes, b"\0")


def crc16(data: bytes, crc: int = 0) -> int:
    """Return the CRC-16 (polynomial 0x8005, bits reflected) of `data` behind data of which it is `crc`."""
    rows = _crc_rows()
    for start in range(0, len(data), _CRC_BLOCK):
        block = np.frombuffer(data[start : start + _CRC_BLOCK], np.uint8)
        length = len(block)
        added = rows[np.arange(length, 0, -1), block]  # a CRC is linear: every byte adds to it by itself
        crc = int(np.bitwise_xor.reduce(added) ^ rows[length, crc & 0xFF] ^ rows[length - 1, crc >> 8])
    return crc


#: Bytes that numpy takes at once: so a CRC costs 3 % of LAME's time, with a Python loop over bytes it would be 30 %.
_CRC_BLOCK: Final = 2048


@cache
def _crc_rows() -> NDArray[np.uint16]:
    """Return (_CRC_BLOCK + 1, 256): a CRC of each byte alone, after as many steps as the row's number."""
    one_step = np.array([_one_byte(byte) for byte in range(256)], np.uint16)
    rows = [np.arange(256, dtype=np.uint16)]
    for _ in range(_CRC_BLOCK):
        rows.append(rows[-1] >> 8 ^ one_step[rows[-1] & 0xFF])
    return np.stack(rows)


def _one_byte(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def _mean_frame_bytes(bitrate_kbps: int) -> float:
    return _FRAME_SAMPLES * bitrate_kbps * 125 / SAMPLE_RATE
