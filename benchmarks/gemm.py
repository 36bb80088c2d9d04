"""How fast this CPU multiplies matrices: the roof under which every model runs.

Runs as a process of its own: `python -m benchmarks.gemm SIZE` prints GFLOP/s per type, and the threads, as JSON.
"""

import json
import subprocess
import sys
import time
from typing import Final

from unmix_worker.environment import child_environment

_REPEATS: Final = 5


def gemm_gflops(size: int) -> tuple[dict[str, float], int]:
    """Return the best of several products of two `size` × `size` matrices, in GFLOP/s by type, and torch's threads."""
    command = [sys.executable, "-m", "benchmarks.gemm", str(size)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=child_environment())
    measured = json.loads(run.stdout)
    return measured["gflops"], measured["threads"]


def main() -> None:
    """Measure and print."""
    import torch

    size = int(sys.argv[1])
    best = {}
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        if dtype is torch.int8:
            left, right = torch.randint(-100, 100, (2, size, size), dtype=dtype)
            multiply = torch._int_mm  # into int32
        else:
            left, right = torch.rand(2, size, size, dtype=dtype)
            multiply = torch.mm
        multiply(left, right)
        seconds = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            multiply(left, right)
            seconds.append(time.perf_counter() - started)
        best[str(dtype).removeprefix("torch.")] = 2 * size**3 / min(seconds) / 1e9
    print(json.dumps({"gflops": best, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
