"""Chained Ogg: several songs one behind the other in one file, as stations and editors write them.

Each link has its own codec, rate and channels, and FFmpeg ends at the first that differs. So every link is opened as
a file of its own; `unmix.audio.decoding` joins them. RFC 3533, sections 4 and 6.
"""

import os
import re
from typing import BinaryIO, Final

from unmix.audio.ogg_pages import Page
from unmix.errors import AudioError

_MOST_PAGE_BYTES: Final = 27 + 255 + 255 * 255
_PAGE: Final = re.compile(rb"OggS\0[\0-\7]")
_BEGINS_STREAM: Final = 2  # in the page's flags
_BLOCK_BYTES: Final = 1 << 20
_MAX_LINKS: Final = 1000


def links(file: BinaryIO, start: int) -> list[tuple[int, int]]:
    """Return begin and end of every link behind `start`, in order; damage between pages is part of the link before.

    Raises:
        AudioError: there are more than songs have (`too_many_streams`).
    """
    begins = []
    began_stream = False
    position = start
    file.seek(start)
    rest = b""
    while block := file.read(_BLOCK_BYTES):
        data = rest + block
        for page in _PAGE.finditer(data):
            begins_stream = bool(data[page.end() - 1] & _BEGINS_STREAM)
            # The streams of one link all begin before any goes on.
            if begins_stream and not began_stream:
                begins.append(position - len(rest) + page.start())
            began_stream = begins_stream
        position += len(block)
        rest = data[-5:]  # the beginning of a page, perhaps
        if len(begins) > _MAX_LINKS:
            raise AudioError(f"the file is a chain of more than {_MAX_LINKS} songs", code="too_many_streams")
    size_bytes = file.seek(0, os.SEEK_END)
    begins[:1] = [start]
    return list(zip(begins, [*begins[1:], size_bytes], strict=True))


def is_cut_off(file: BinaryIO) -> bool:
    """Tell whether the last page is not there as a whole, as after a download that broke off."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - _MOST_PAGE_BYTES))
    data = file.read()
    begins = [page.start() for page in _PAGE.finditer(data)]
    return bool(begins) and next(Page.taken_from(bytearray(data[begins[-1] :])), None) is None
