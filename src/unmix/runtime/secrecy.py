"""Keeps what a process knows from other processes of the same user, above all from those that decode strangers' songs.

Passwords and keys come as environment variables, and on Linux any process may read the environment and the memory of
another one of its user in /proc. One that says it is not dumpable is spared: only root, or who has CAP_SYS_PTRACE,
CAP_PERFMON or CAP_SYS_ADMIN, gets at it. There is no core dump and no debugger either then. A program that is started
begins anew, so each has to say so itself, and can be read until it does. Where there is no such call, as on macOS,
nothing is done.
"""

import ctypes
import os
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def keep_files() -> None:
    """Let no other user read the files that this process makes from here on; what its starter forbids stays so."""
    os.umask(os.umask(0o077) | 0o077)


def private(path: str, flags: int) -> int:
    """Open a file for this user alone: an opener, as `open` takes one."""
    return os.open(path, flags, 0o600)


def keep_secrets() -> None:
    """Let no other process of this user read the environment or the memory of this one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
