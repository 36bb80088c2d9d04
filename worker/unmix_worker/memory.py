"""How much memory a worker may take and has taken, and the watch that ends its child before the kernel ends them all.

In a container whose cgroup kills as a whole (`memory.oom.group`, which Kubernetes sets with cgroup v2) a process that
takes too much takes its worker along, and the song's lease lapses as if a machine had gone. So the parent looks first.
Why it does not have the kernel limit its data instead: docs/reliability.md.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: Of the limit, what is left to the kernel's own (page tables, sockets) and to what comes between two looks.
RESERVE_BYTES: Final = 128 << 20
#: Faster than this no process fills memory that the kernel has to clear first; so long until the next look is safe.
_FASTEST_BYTES_PER_SECOND: Final = 8 << 30
_SHORTEST_PAUSE_SECONDS: Final = 0.005
_LONGEST_PAUSE_SECONDS: Final = 0.2
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def room_for_child_bytes(limit_bytes: int | None) -> int | None:
    """Return how much of the limit the separating process may take, beside this one; None if there is no limit."""
    if limit_bytes is None:
        return None
    return max(0, limit_bytes - RESERVE_BYTES - (_own_bytes(Path("/proc/self")) or 0))


def taken_bytes(pid: int) -> int | None:
    """Return the memory that a process and those that it started take and nobody can take from them; None if it ended.

    What is mapped from files does not count: the kernel drops that when it needs the room.
    """
    taken = _own_bytes(Path("/proc") / str(pid))
    if taken is None:
        return None
    return taken + sum(taken_bytes(child) or 0 for child in _children(pid))


def peak_bytes(pid: int) -> int | None:
    """Return the most memory that a process was resident with so far, and those that it started and that still run.

    It is what the kernel counts (`VmHWM`), with what is mapped from files; each process by itself, added up. None if
    the process ended, or the system does not say.
    """
    try:
        status = (Path("/proc") / str(pid) / "status").read_text()
    except OSError:
        return None
    peaks = [int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")]
    return sum(peaks) + sum(peak_bytes(child) or 0 for child in _children(pid)) if peaks else None


class MemoryWatch:
    """Looks at what a process takes, from a thread of its own, until the process ends or takes more than `most_bytes`.

    The more room there is, the longer it waits until the next look.
    """

    def __init__(self, pid: int, most_bytes: int, end: Callable[[], None]) -> None:
        """Begin; `end` is called once if the process takes too much."""
        self.exceeded = False
        self._pid = pid
        self._most_bytes = most_bytes
        self._end = end
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more. To be called before the process is waited for: its number may be another's then."""
        self._closed.set()
        self._thread.join()

    def _look(self) -> None:
        while (taken := taken_bytes(self._pid)) is not None:
            if taken > self._most_bytes:
                self.exceeded = True
                self._end()
                return
            pause = (self._most_bytes - taken) / _FASTEST_BYTES_PER_SECOND
            if self._closed.wait(min(max(pause, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)):
                return


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _own_bytes(process: Path) -> int | None:
    try:
        _, resident, of_files, *_ = (process / "statm").read_text().split()
    except (OSError, ValueError):
        return None
    return (int(resident) - int(of_files)) * _PAGE_BYTES
