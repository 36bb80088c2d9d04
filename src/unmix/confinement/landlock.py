"""Landlock: the kernel refuses this process every file, every TCP port, and signals to others.

No rule allows anything: what a confined process needs it has open already. Linux has Landlock since 5.13, with TCP
since 6.7, with signals and abstract sockets since 6.12; files that exist can be stat'ed nevertheless, and UDP and
sockets in the file system are not its business. https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
from typing import Any, Final

_CREATE_RULESET: Final = 444  # the same on every architecture
_RESTRICT_SELF: Final = 446
_VERSION_FLAG: Final = 1
#: How many rights on files each version knows, from the lowest bit on; later ones know no more that we ask for.
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_RIGHTS: Final = 0b11  # to bind, to connect
_SCOPES: Final = 0b11  # abstract Unix sockets, signals


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr."""

    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def restrict(libc: Any) -> int:
    """Refuse all that this kernel's version can refuse, and return the version; 0 if there is none."""
    version = int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION_FLAG)))
    if version < 1:
        return 0
    files = (1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1
    rules = _Ruleset(files, _TCP_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    known_bytes = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(known_bytes), ctypes.c_uint(0))
    if ruleset < 0:
        return 0
    try:
        refused = libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)
    return 0 if refused else version
