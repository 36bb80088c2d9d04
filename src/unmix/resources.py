"""What this process may use of its machine: processors and memory, as far as its affinity and its cgroups let it.

A machine may have 64 processors and a container 2 of them; whoever counts those of the machine starts 64 threads that
take turns. Linux says what a process has in `/proc` and `/sys`; elsewhere it is what the machine has. How they are used
is decided elsewhere: `unmix.separating` for one engine, `unmix.local` for the workers of one machine.
"""

import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/")


def usable_processors() -> int:
    """Return on how many processors this process can compute at once: 1 or more."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return processors_of(os.sched_getaffinity(0), _ROOT)


def usable_memory() -> int:
    """Return how many bytes this process and all beside it may use: not what is free now."""
    return memory_limit_bytes() or _machine_bytes()


def memory_limit_bytes() -> int | None:
    """Return how many bytes the cgroups allow this process and all beside it; None if they do not limit it."""
    limit = memory_limit(_ROOT)
    return int(limit) if limit < _machine_bytes() else None


def memory_kills() -> int | None:
    """Return how many processes of our cgroup the kernel has killed for memory so far; None if nobody counts them.

    That of a container begins at 0 with each start. With version 2 those of the cgroups below count too, and kills for
    the limit of one above, or for want of memory in the whole machine.
    """
    return memory_kills_of(_ROOT)


def processors_of(allowed: Iterable[int], root: Path) -> int:
    """Return how many processors those `allowed` are, as /proc and /sys below `root` describe them and their quota.

    Hyper-threads of one core are one processor: two that multiply matrices share what one has alone. A quota of time
    is rounded, so 1.5 are 2: then both stand still for a quarter of the time, and more is computed than by 1.
    """
    cores = {_siblings(number, root) for number in allowed}
    quota = min((_quota(folder) for folder in _cgroups("cpu", root)), default=math.inf)
    return max(1, math.floor(min(len(cores), quota + 0.5)))


def memory_limit(root: Path) -> float:
    """Return the least limit of memory, in bytes, of the cgroups that /proc and /sys below `root` describe."""
    return min((_memory(folder) for folder in _cgroups("memory", root)), default=math.inf)


def memory_kills_of(root: Path) -> int | None:
    """Return the same of the cgroup that /proc and /sys below `root` describe, or of the first above it that counts."""
    for folder in _cgroups("memory", root):
        # `failcnt` of version 1 is no evidence: it rises too when the kernel only drops what it has cached of files.
        for line in (*_lines(folder / "memory.events"), *_lines(folder / "memory.oom_control")):
            match line.split():
                case ["oom_kill", count] if count.isdigit():
                    return int(count)
    return None


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _siblings(number: int, root: Path) -> str:
    """Return which processors share a core with this one, as the kernel writes it: the same for each of them."""
    path = root / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
    return " ".join(_words(path)) or str(number)


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the cgroups that limit this process: those of version 2, and of version 1 by controller.

    Its own comes first, then each that holds the one before, as far as this process can see: a container often sees
    its own alone.
    """
    memberships: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        memberships |= dict.fromkeys(controllers.split(","), path)  # that of version 2 has no name
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, filesystem = line.partition(" - ")
        kind, _, options = filesystem.partition(" ")
        if kind == "cgroup2":
            membership = memberships.get("")
        elif kind == "cgroup" and controller in options.split()[-1].split(","):
            membership = memberships.get(controller)
        else:
            continue
        shown, point = mount.split()[3:5]
        folder = top = root / point.lstrip("/")
        if membership and (inside := Path(membership)).is_relative_to(shown) and ".." not in inside.parts:
            folder = top / inside.relative_to(shown)
        yield folder
        yield from (parent for parent in folder.parents if parent.is_relative_to(top))


def _quota(cgroup: Path) -> float:
    """Return how many processors' time this cgroup may take; infinite if nobody limits it."""
    match _words(cgroup / "cpu.max") or _words(cgroup / "cpu.cfs_quota_us") + _words(cgroup / "cpu.cfs_period_us"):
        case [quota, period] if quota.isdigit() and int(quota) > 0:  # neither `max` nor -1
            return int(quota) / int(period)
    return math.inf


def _memory(cgroup: Path) -> float:
    """Return how many bytes this cgroup may take; infinite if nobody limits it."""
    match _words(cgroup / "memory.max") or _words(cgroup / "memory.limit_in_bytes"):
        case [limit] if limit.isdigit():
            return int(limit)
    return math.inf


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; none if it cannot be read, as not every kernel and container has each of them."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
