"""A worker leaves it to the kernel on which processors its threads run, as other workers are there too."""

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from engine_support import engine_of
from unmix.engine.models import DEMO, load_model

if sys.platform != "linux":
    pytest.skip("only Linux says where the threads of a process may run", allow_module_level=True)

#: How often to look at all threads while the engine computes. When OpenVINO bound its threads, most looks saw one.
LOOKS = 50


def affinities() -> set[frozenset[int]]:
    """Return the sets of processors on which the threads of this process may run."""
    found = set()
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has just ended
            found.add(frozenset(os.sched_getaffinity(int(thread))))
    return found


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor leaves no choice")
@pytest.mark.parametrize("threads", [1, 2])
def test_while_the_engine_computes_its_threads_may_run_wherever_the_process_may(threads: int, cache_dir: Path) -> None:
    model = load_model(DEMO)
    (estimator,) = engine_of(model, cache_dir, threads=threads).estimators
    looked = threading.Event()

    def compute() -> None:
        window = torch.zeros(1, 2, model.segment_samples)
        with torch.inference_mode():
            while not looked.is_set():
                estimator(window, range(len(model.sources)))

    computing = threading.Thread(target=compute)
    computing.start()
    try:
        seen = set().union(*(affinities() for _ in range(LOOKS) if not looked.wait(0.02)))
        assert computing.is_alive()
    finally:
        looked.set()
        computing.join()
    assert seen == {frozenset(os.sched_getaffinity(0))}
