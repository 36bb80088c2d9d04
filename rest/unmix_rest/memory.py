"""How the process treats memory that it has used: it goes back to the system, where the C library is glibc.

By itself glibc keeps what was freed for the next time, in one heap for each few threads, and moves the size from which
on memory is given back at once up to 32 MiB. After hundreds of clients that did not read REST kept twice what it needs.
"""

import ctypes
from contextlib import suppress
from typing import Final

#: From malloc.h: how much free memory at the end of a heap is kept, from which size on memory is no part of a heap, and
#: how many heaps there are. Setting the second one also keeps it where it is.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_THRESHOLD_BYTES: Final = 128 * 1024
_ARENAS: Final = 2


def give_back_what_is_free() -> None:
    """Have the C library keep little of what is freed; call before there are threads."""
    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, _THRESHOLD_BYTES)
        mallopt(_MMAP_THRESHOLD, _THRESHOLD_BYTES)
        mallopt(_ARENA_MAX, _ARENAS)
