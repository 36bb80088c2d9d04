"""One GPU from outside: processes that compute on it, how much of its memory is in use, and NVIDIA's MPS.

Linux and NVIDIA only; where nvidia-smi or MPS is not installed, there is nothing to say of either.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from unmix_worker.environment import child_environment

_SAMPLE_SECONDS: Final = 0.5


class OutOfTimeError(Exception):
    """The run has taken as long as it may."""


class Process:
    """A `gpu_process` that ends with the block, or when the time is over."""

    def __init__(
        self,
        configuration: Mapping[str, Any],
        log: Path,
        *,
        deadline: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        self._deadline = deadline
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu_process", json.dumps(configuration)],
                env=child_environment() | dict(environment or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), self._process.kill)

    def __enter__(self) -> Self:
        self._watchdog.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()

    def do(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Tell it a task and wait for the answer."""
        self.tell(task)
        return self.answer()

    def tell(self, task: Mapping[str, Any]) -> None:
        """Tell it a task."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the missing answer tells more
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            OutOfTimeError: the run has no time left.
            RuntimeError: the process ended; says how its log ends.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        if time.monotonic() >= self._deadline:
            raise OutOfTimeError
        raise RuntimeError(f"the process ended: {self._log.read_text()[-2000:]}")


class DeviceMemory:
    """Asks nvidia-smi in a thread, while the block runs, how much of the GPU's memory is in use, by whomever."""

    def __init__(self) -> None:
        self.peak_mb: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while (used_mib := nvidia_smi("memory.used")) is not None:
            self.peak_mb = max(self.peak_mb or 0.0, float(used_mib) * 2**20 / 1e6)
            if self._ended.wait(_SAMPLE_SECONDS):
                return


def nvidia_smi(what: str) -> str | None:
    """Return what nvidia-smi knows of the first GPU; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", "--id=0"]
    asked = subprocess.run(command, capture_output=True, text=True)
    return asked.stdout.strip() if asked.returncode == 0 else None


@contextmanager
def mps(folder: Path) -> Iterator[dict[str, str] | None]:
    """Run NVIDIA's MPS for the block, and yield the variables of its clients; None where it is not installed."""
    if shutil.which("nvidia-cuda-mps-control") is None:
        yield None
        return
    variables = {f"CUDA_MPS_{what}_DIRECTORY": str(folder / f"mps-{what.lower()}") for what in ("PIPE", "LOG")}
    for path in variables.values():
        Path(path).mkdir()
    environment = os.environ | variables
    if subprocess.run(["nvidia-cuda-mps-control", "-d"], env=environment).returncode != 0:
        yield None
        return
    try:
        yield variables
    finally:
        subprocess.run(["nvidia-cuda-mps-control"], input="quit\n", text=True, env=environment)
