"""Who is measured: demucs' command line, `apply_model` as a library, and our engine as a warm worker.

Each contestant opens a session, which separates one song after the other in processes of its own. Only one session is
open at a time, so that no contestant works beside another or shares memory with it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Usage, run_command, watch
from benchmarks.models import BenchModel
from benchmarks.songs import looped_song
from unmix.local.demo import decode
from unmix_worker.environment import child_environment

Estimates = NDArray[np.float32]


class Session(Protocol):
    """A contestant with a model, ready for songs."""

    @property
    def runs(self) -> str:
        """What computes, and how."""

    def separate(self, song: Path) -> Usage:
        """Do with one song what the contestant is measured by."""

    def estimates(self, song: Path) -> Estimates:
        """Return the estimates (sources, 2, time) in a song as they are before any codec."""


class Contestant(Protocol):
    """One row of the tables."""

    @property
    def name(self) -> str:
        """What the row is called."""

    @property
    def codecs(self) -> bool:
        """Whether it goes from file to files; else from samples to samples."""

    def session(self, model: BenchModel, folder: Path) -> AbstractContextManager[Session]:
        """Open a session with `model` that leaves its files in `folder`."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """demucs' command line with these options; it starts and loads its model for every song."""

    name: str
    options: tuple[str, ...]
    codecs: bool = True

    @contextmanager
    def session(self, model: BenchModel, folder: Path) -> Iterator["CommandLineSession"]:
        """Prepare nothing: the program starts with every song."""
        yield CommandLineSession(model, folder, self.options)


@dataclass(frozen=True, slots=True)
class CommandLineSession:
    """Calls of demucs' command line with one model."""

    model: BenchModel
    folder: Path
    options: tuple[str, ...]
    runs: str = "demucs"

    def separate(self, song: Path) -> Usage:
        """Separate a file into files, the start of the program included."""
        return self._call(*self.options, str(song))

    def start(self) -> Usage:
        """Start the program and load the model: without its song, that is all that demucs does."""
        return self._call(str(self.folder / "no-such-song.mp3"))

    def estimates(self, song: Path) -> Estimates:
        """Separate a song without the random shift, into files whose samples are neither rounded nor rescaled."""
        self._call("--shifts", "0", "--float32", "--clip-mode", "none", str(song))
        stems = self.folder / self.model.name / song.stem
        return np.stack([decode(stems / f"{source}.wav") for source in self.model.sources])

    def _call(self, *arguments: str) -> Usage:
        demucs = str(Path(sys.executable).with_name("demucs"))
        where = ["--name", self.model.name, "--repo", self.model.repository, "--out", str(self.folder)]
        return run_command([demucs, *where, *arguments], log=self.folder / "demucs.log")


@dataclass(frozen=True, slots=True)
class Warm:
    """An engine whose process keeps the model loaded: ours with these options, or `apply_model` for None.

    With `output`, options of `separate_file`, it separates a file into files; without, samples into samples.
    """

    name: str
    separator: Mapping[str, Any] | None
    output: Mapping[str, Any] | None = None

    @property
    def codecs(self) -> bool:
        """Whether it goes from file to files; else from samples to samples."""
        return self.output is not None

    @contextmanager
    def session(self, model: BenchModel, folder: Path) -> Iterator["WarmSession"]:
        """Start the process, wait until its model is loaded, and end it after."""
        configuration = {"model": model.name, "model_dir": model.model_dir, "separator": self.separator}
        log = folder / "engine.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.engine_process", json.dumps(configuration)],
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            session = WarmSession(process, folder, self.output, log)
            session.separate(looped_song(1))  # the first song pays for buffers and threads
            yield session
        finally:
            process.kill()
            process.communicate()


class WarmSession:
    """A process with a loaded model."""

    def __init__(
        self, process: subprocess.Popen[str], folder: Path, output: Mapping[str, Any] | None, log: Path
    ) -> None:
        self._process = process
        self._folder = folder
        self._output = output
        self._log = log
        self.windows = 0  # of the last song that went from samples to samples
        self.runs = str(self._answer()["runs"])

    def separate(self, song: Path) -> Usage:
        """Separate the song; where samples are separated, it is decoded before."""
        if self._output is not None:
            task = {"do": "separate file", "song": str(song), "out": str(self._folder), "options": self._output}
        else:
            self._do({"do": "decode", "song": str(song)})
            task = {"do": "separate samples"}
        return watch(self._process.pid, lambda: self._do(task))

    def estimates(self, song: Path) -> Estimates:
        """Separate the song into samples."""
        path = self._folder / "estimates.npy"
        self._do({"do": "decode", "song": str(song)})
        self._do({"do": "separate samples"})
        self._do({"do": "save", "path": str(path)})
        estimates: Estimates = np.load(path)
        return estimates

    def _do(self, task: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the missing answer tells more
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
        self.windows = self._answer()["windows"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the engine's process ended: {self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer
