"""`unmix local` as people run it: the whole service as one process with others below it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from stack import FAST
from support import free_port


class LocalMode:
    """`unmix local` as a process of its own, on a free port."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def heard(self, beginning: str) -> str:
        """Wait until it says a line that begins so, and return the line."""
        assert self.process is not None
        assert self.process.stdout is not None
        return next(line for line in self.process.stdout if line.startswith(beginning))

    def start(self, **settings: str) -> None:
        command = ["local", "--model", "demo", "--port", str(self.port), "--data-dir", str(self.data_dir)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "unmix.cli", *command],
            # The store of some deployment in the environment is not for local mode, which has its own.
            env={**os.environ, **FAST, "UNMIX_THREADS": "1", "MINIO_HOST": "minio.invalid:9000", **settings},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if "serves at" in line:
                return
        raise AssertionError("".join(said))

    def descendants(self) -> set[int]:
        """The pids of all processes below the supervisor."""
        assert self.process is not None
        return {process.pid for process in psutil.Process(self.process.pid).children(recursive=True)}

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        self.process.communicate()
        return self.process.returncode
