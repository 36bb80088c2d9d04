"""How fast this CPU multiplies matrices: the roof under which every model runs.

Runs as a process of its own: `python -m benchmarks.gemm SIZE` prints GFLOP/s per type as JSON.
"""

import json
import subprocess
import sys
import time
from typing import Final

from unmix_worker.environment import child_environment

_REPEATS: Final = 5


def gemm_gflops(size: int) -> dict[str, float]:
    """Return the best of several products of two `size` × `size` matrices, in GFLOP/s by type."""
    command = [sys.executable, "-m", "benchmarks.gemm", str(size)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=child_environment())
    gflops: dict[str, float] = json.loads(run.stdout)
    return gflops


def main() -> None:
    """Measure and print."""
    import torch

    size = int(sys.argv[1])
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.rand(2, size, size, dtype=dtype)
        torch.mm(left, right)
        seconds = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            torch.mm(left, right)
            seconds.append(time.perf_counter() - started)
        best[str(dtype).removeprefix("torch.")] = 2 * size**3 / min(seconds) / 1e9
    print(json.dumps(best))


if __name__ == "__main__":
    main()
