"""What a run of processes costs: wall time, processor time and peak memory of a process and all that it started.

Linux only: elsewhere nobody says how large a process' share of the memory is. What is run is for `contestants`.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

#: Pause between two looks at the memory.
SAMPLE_SECONDS: Final = 0.2
_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run took. MB are 10⁶ bytes."""

    wall_s: float
    cpu_s: float  # of the whole tree, user and system
    peak_pss_mb: float  # of the whole tree, sampled; pages that processes share are counted once
    peak_rss_mb: float  # of the largest process since it started, as the kernel noted it
    others_cpu_s: float  # what the rest of the machine computed meanwhile: the noise in `wall_s`


class TreeMemory:
    """Samples the memory of a process tree in a thread while the block runs."""

    def __init__(self, pid: int) -> None:
        self.peak_pss = 0  # bytes
        self._root = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak_pss = max(self.peak_pss, sum(_pss(process) for process in _tree(self._root)))
            if self._ended.wait(SAMPLE_SECONDS):
                return


def run_command(command: Sequence[str], *, log: Path) -> Usage:
    """Run `command` to its end, what it prints into `log`, and return what it and its children took.

    Raises:
        RuntimeError: it failed; says how its log ends.
    """
    machine_before, started = _machine_cpu_seconds(), time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        with TreeMemory(process.pid) as memory:
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} ended with {process.returncode}: {log.read_text()[-2000:]}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Usage(
        wall_s=wall_s,
        cpu_s=cpu_s,
        peak_pss_mb=memory.peak_pss / _MB,
        peak_rss_mb=usage.ru_maxrss * 1024 / _MB,
        others_cpu_s=max(0.0, _machine_cpu_seconds() - machine_before - cpu_s),
    )


def watch(pid: int, work: Callable[[], None]) -> Usage:
    """Do `work`, which keeps the living process `pid` busy, and return what that took of its tree."""
    root = psutil.Process(pid)
    machine_before, cpu_before, started = _machine_cpu_seconds(), _tree_cpu_seconds(root), time.perf_counter()
    with TreeMemory(pid) as memory:
        work()
        wall_s = time.perf_counter() - started
    cpu_s = _tree_cpu_seconds(root) - cpu_before
    return Usage(
        wall_s=wall_s,
        cpu_s=cpu_s,
        peak_pss_mb=memory.peak_pss / _MB,
        peak_rss_mb=peak_rss_mb(pid),
        others_cpu_s=max(0.0, _machine_cpu_seconds() - machine_before - cpu_s),
    )


def peak_rss_mb(pid: int) -> float:
    """Return the most memory that the living process `pid` ever had, as the kernel noted it."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / _MB


def others_cpu_seconds(pid: int) -> float:
    """Return the seconds that all processors computed so far for others than the living process `pid` and its tree."""
    return _machine_cpu_seconds() - _tree_cpu_seconds(psutil.Process(pid))


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it has just ended
        return 0


def _tree_cpu_seconds(root: psutil.Process) -> float:
    times = [process.cpu_times() for process in _tree(root)]
    return sum(each.user + each.system + each.children_user + each.children_system for each in times)


def _machine_cpu_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.irq + times.softirq + times.steal)
