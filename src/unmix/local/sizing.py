"""How many workers local mode starts unless it is told, and how many threads each of them computes with.

More threads finish a song sooner, more workers finish more songs: the second thread of a worker brings less than a
second worker, but no memory is needed for it (docs/engine.md). What there is to share is `unmix.resources`'.
"""

from typing import Final

from unmix.resources import usable_memory, usable_processors
from unmix.settings import Settings

#: Threads of a worker where there are enough processors for several workers.
WORKER_THREADS: Final = 2
#: Memory of the machine for each worker: 2 GiB for `htdemucs`, and as much again for all else that runs there.
WORKER_MEMORY: Final = 4 << 30


def default_workers(settings: Settings) -> int:
    """Return how many workers to start here: one where the threads or another device than the CPU were chosen."""
    if settings.threads or settings.device != "cpu":
        return 1
    return workers_for(usable_processors(), usable_memory())


def workers_for(processors: int, memory_bytes: int) -> int:
    """Return how many workers these processors and this memory are good for."""
    return max(1, min(processors // WORKER_THREADS, memory_bytes // WORKER_MEMORY))


def threads_for(settings: Settings, workers: int) -> int:
    """Return how many threads each of these workers computes with."""
    return settings.threads or max(1, usable_processors() // max(1, workers))
