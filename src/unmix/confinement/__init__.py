"""Shuts a process in before it decodes what a stranger sent: nothing to open, nobody to talk to, nothing to start.

A process that decodes loads what it needs and opens the song; then it calls `confine`, and from there on it can read
the song, compute, and write to the pipe that it has. Two mechanisms of Linux do it, each alone if the kernel lacks the
other; neither needs a privilege, so both hold in an ordinary container, and nobody can take them off again. Where
there is neither, as on macOS, only the limits that each process sets for itself remain. Why these two:
docs/adr/0018-decoders-are-shut-in.md.
"""

import ctypes
import subprocess
import sys
from typing import Final, Literal

from unmix.confinement import landlock, seccomp
from unmix.errors import UnmixError

#: Whether a process that decodes is shut in: as far as the kernel can, or not without all of it, or not at all.
Sandbox = Literal["auto", "require", "off"]

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS: Final = 38
_SIGKILL: Final = 9
#: How long the try at the start may take, in seconds.
_TRY_SECONDS: Final = 60


def confine(sandbox: Sandbox = "auto") -> tuple[str, ...]:
    """Shut this process in for ever, and return what holds it. It must have one thread only.

    Raises:
        UnmixError: all of it is required, and the kernel has not got it (`sandbox_unavailable`).
    """
    in_force: list[str] = []
    if sandbox != "off" and sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # else an ordinary user may do neither
        if version := landlock.restrict(libc):
            in_force.append(f"landlock {version}")
        if seccomp.restrict(libc):
            in_force.append("seccomp")
    _refuse_less(tuple(in_force), sandbox)
    return tuple(in_force)


def in_force(sandbox: Sandbox) -> tuple[str, ...]:
    """Return what `confine` puts in force on this machine, by trying it in a process of its own.

    Raises:
        UnmixError: all of it is required, and not there (`sandbox_unavailable`); or the try failed.
    """
    command = [sys.executable, "-P", "-B", "-m", "unmix.confinement", sandbox]
    try:
        tried = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TRY_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UnmixError(f"no process can be shut in: {error}", code="sandbox_unavailable") from error
    found = tuple(filter(None, tried.stdout.splitlines()))
    _refuse_less(found, sandbox)
    return found


def end_with_parent() -> None:
    """Have this process killed with the thread that started it, where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


def _refuse_less(in_force: tuple[str, ...], sandbox: Sandbox) -> None:
    # Landlock alone leaves UDP, and sockets that are files.
    if sandbox == "require" and "seccomp" not in in_force:
        found = ", ".join(in_force) or "nothing"
        raise UnmixError(
            f"UNMIX_DECODER_SANDBOX=require, but this kernel has {found} to shut decoders in",
            code="sandbox_unavailable",
        )
