"""Ogg Vorbis files that are the same each time, decode to exactly the samples encoded, and carry any tags.

libvorbis comes in libsndfile, with `soundfile`. libsndfile draws a file's serial number at random and knows neither
covers nor the artist of an album, so its pages are written anew, with our number and comments; the packets of sound
are as they were.
Layout: "Vorbis I specification", sections 4.2, 5 and A, https://xiph.org/vorbis/doc.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from typing import BinaryIO, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from unmix.audio.ogg_pages import Page, PageWriter
from unmix.audio.samples import SAMPLE_RATE

#: kbit/s that music usually comes to at libvorbis's qualities of 0 to 9.
_USUAL_KBPS: Final = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
#: Samples that libvorbis is given at once: what it makes of them depends a little on how many it sees.
_BLOCK_SAMPLES: Final = 4096
_SETUP: Final = b"\5vorbis"


class VorbisEncoder:
    """Encode 16-bit stereo at 44.1 kHz into `file`, in the quality that usually comes nearest to the asked bit rate.

    `comments` are those of `unmix.audio.tagging`. What `file` raises is passed on.
    """

    def __init__(self, file: BinaryIO, *, bitrate_kbps: int, comments: bytes) -> None:
        quality = min(range(len(_USUAL_KBPS)), key=lambda each: abs(_USUAL_KBPS[each] - bitrate_kbps))
        self._comments = comments
        self._made = BytesIO()  # not `file`: what that raises would be lost in libsndfile
        kind = {"format": "OGG", "subtype": "VORBIS", "compression_level": 1 - quality / 10}
        self._vorbis = soundfile.SoundFile(self._made, "w", SAMPLE_RATE, 2, **kind)
        self._waiting = np.empty((2, 0), np.int16)
        self._pages = PageWriter(file)
        self._headers: list[Page] | None = []  # until the sound begins

    def write(self, pcm: NDArray[np.int16]) -> None:
        """Append `pcm`: (2, time)."""
        samples = np.concatenate([self._waiting, pcm], axis=1)
        whole = samples.shape[1] - samples.shape[1] % _BLOCK_SAMPLES
        for first in range(0, whole, _BLOCK_SAMPLES):
            self._encode(samples[:, first : first + _BLOCK_SAMPLES])
        self._waiting = samples[:, whole:]
        self._hand_on()

    def finish(self) -> None:
        """Encode what is left; `file` stays open."""
        self._encode(self._waiting)
        self._vorbis.close()
        self._hand_on()

    def close(self) -> None:
        """Free what libvorbis holds, finished or not; `file` stays open."""
        self._vorbis.close()

    def _encode(self, pcm: NDArray[np.int16]) -> None:
        self._vorbis.write(pcm.T / np.float32(32_768))

    def _hand_on(self) -> None:
        """Write what libsndfile has made, which is whole pages."""
        for made in Page.taken_from(bytearray(self._made.getvalue())):
            for page in self._instead_of(made):
                self._pages.write(page)
        self._made.seek(0)
        self._made.truncate()

    def _instead_of(self, page: Page) -> Iterator[Page]:
        if self._headers is None:
            yield page
        elif page.is_before_sound:
            self._headers.append(page)
        else:
            first, *others = self._headers
            self._headers = None
            yield first
            yield from Page.all_of(_with_comments(b"".join(other.body for other in others), self._comments))
            yield from _split(page, block_sizes=[1 << (first.body[28] >> shift & 15) for shift in (0, 4)])


def _split(page: Page, *, block_sizes: Sequence[int]) -> Iterator[Page]:
    """Yield the first page with sound as two: FFmpeg cuts the last page to its position only where one is before.

    What is quiet can be seconds in one page. The first two packets come to a quarter of both blocks; which of two
    sizes a block has, libvorbis says in the second bit of a packet.
    """
    ends = [index + 1 for index, length in enumerate(page.lacing) if length < 255]
    if len(ends) < 3:
        yield page
        return
    sizes = [sum(page.lacing[:end]) for end in ends[:2]]
    blocks = [block_sizes[page.body[at] >> 1 & 1] for at in (0, sizes[0])]
    yield Page(0, sum(blocks) // 4, page.lacing[: ends[1]], page.body[: sizes[1]])
    yield replace(page, lacing=page.lacing[ends[1] :], body=page.body[sizes[1] :])


def _with_comments(headers: bytes, comments: bytes) -> list[bytes]:
    """Return the packets of comments and of the setup, with other comments; who encoded it stays."""
    vendor_end = 11 + int.from_bytes(headers[7:11], "little")
    return [headers[:vendor_end] + comments + b"\1", headers[headers.index(_SETUP, vendor_end) :]]
