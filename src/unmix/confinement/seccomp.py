"""Seccomp: the kernel knows no system call any more but those that a process needs to compute.

A list of what is allowed, so that what a later kernel can do is refused, too. Everything else fails as on a kernel
that does not have it (ENOSYS), and so libraries fall back to older calls where there are some. A thread may be
started, but no process. https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import platform
import struct
from typing import Any, Final

#: What is allowed: the numbers on x86_64 and on aarch64, which may lack it.
_ALLOWED: Final[dict[str, tuple[int | None, int | None]]] = {
    # the song and the pipes, which are open
    "read": (0, 63), "readv": (19, 65), "pread64": (17, 67), "lseek": (8, 62), "fstat": (5, 80), "close": (3, 57),
    "write": (1, 64), "writev": (20, 66), "poll": (7, None), "ppoll": (271, 73),
    # memory
    "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216), "mprotect": (10, 226), "madvise": (28, 233),
    "brk": (12, 214),
    # threads, and what the C library does in each
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293), "membarrier": (324, 283),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "gettid": (186, 178), "getpid": (39, 172),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    # time, randomness, the end
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "gettimeofday": (96, 169), "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115), "getrandom": (318, 278), "getrusage": (98, 165),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
#: Allowed if it starts a thread; `clone3` has its flags where no filter can look, and `clone` is what libraries fall
#: back to.
_CLONE: Final = (56, 220)
_CLONE_THREAD: Final = 0x10000
#: Of each architecture: its number in linux/audit.h, its column above, and the number of `seccomp` itself.
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 0, 317), "aarch64": (0xC00000B7, 1, 277)}

_SET_MODE_FILTER: Final = 1
_TSYNC: Final = 1  # for threads that there are already, too
_KILL: Final = 0x80000000
_ENOSYS: Final = 0x00050000 | 38
_ALLOW: Final = 0x7FFF0000
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # linux/bpf_common.h
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # in struct seccomp_data, the low half first


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def restrict(libc: Any) -> bool:
    """Allow this process no more than the list; False if the kernel or the architecture cannot do it."""
    known = _ARCHITECTURES.get(platform.machine())
    if known is None:
        return False
    architecture, column, number = known
    program = filter_of(architecture, column)
    filtered = _Program(len(program) // 8, program)
    flags = ctypes.c_uint(_TSYNC)
    return bool(libc.syscall(number, ctypes.c_uint(_SET_MODE_FILTER), flags, ctypes.byref(filtered)) == 0)


def filter_of(architecture: int, column: int) -> bytes:
    """Return the program that the kernel runs before each call."""
    allowed = sorted(number for numbers in _ALLOWED.values() if (number := numbers[column]) is not None)
    # Each call is looked at from the load of its number on; jumps count the instructions that they pass over. The
    # numbers of x32, the other set of x86_64, have a bit of their own, and so are none of these.
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((_IF_EQUAL, len(allowed) - index + 4, 0, number) for index, number in enumerate(allowed)),
        (_IF_EQUAL, 1, 0, _CLONE[column]),
        (_RETURN, 0, 0, _ENOSYS),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_IF_ANY_BIT, 1, 0, _CLONE_THREAD),
        (_RETURN, 0, 0, _ENOSYS),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
