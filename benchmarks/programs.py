"""Command lines that are measured beside demucs': ours, and those of other programs that run its models.

The others live in `.venv-peers`, which `make bench` makes, so that what they need stays out of our environment. Each is
given our weights in the place and form that it reads by itself. How they are called, and nothing else, is here.
"""

import importlib.metadata
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from benchmarks.contestants import Estimates
from benchmarks.measure import Usage, run_command
from benchmarks.models import BenchModel
from benchmarks.scratch import CONVERTED
from benchmarks.songs import looped_song
from unmix.local.demo import decode

_ROOT: Final = Path(__file__).parents[1]
PEERS: Final = _ROOT / ".venv-peers"
#: What audio-separator's list of models has beside those of demucs.
_OTHER_LISTS: Final = (
    *("vr_download_list", "mdx_download_list", "mdx_download_vip_list"),
    *("mdx23c_download_list", "mdx23c_download_vip_list", "roformer_download_list"),
)


class Program(Protocol):
    """A command line that separates a song into files with a model that it loads each time."""

    @property
    def runs(self) -> str:
        """Its name and version."""

    def prepare(self, model: BenchModel) -> None:
        """Put the model where the program reads it."""

    def command(self, model: BenchModel, song: Path, folder: Path, *, compared: bool) -> Sequence[str]:
        """Return the call that leaves stems of `song` in `folder`.

        With `compared`, the stems are WAV, as near to the estimates as the program can, and not shifted at random.
        """

    def stem(self, model: BenchModel, song: Path, folder: Path, source: str) -> Path:
        """Return where a compared call leaves the stem of `source`."""


@dataclass(frozen=True, slots=True)
class Cold:
    """A contestant that starts and loads its model for every song."""

    name: str
    program: Program
    codecs: bool = True

    @contextmanager
    def session(self, model: BenchModel, folder: Path) -> Iterator["ColdSession"]:
        """Hand the model over, and let the program leave behind what it keeps from one call to the next."""
        self.program.prepare(model)
        session = ColdSession(self.program, model, folder, self.program.runs)
        session.separate(looped_song(1))
        yield session


@dataclass(frozen=True, slots=True)
class ColdSession:
    """Calls of a program with one model."""

    program: Program
    model: BenchModel
    folder: Path
    runs: str

    def separate(self, song: Path) -> Usage:
        """Separate a file into files, the start of the program included."""
        return self._call(song, compared=False)

    def estimates(self, song: Path) -> Estimates:
        """Separate a song into WAV files and read them."""
        self._call(song, compared=True)
        stems = [self.program.stem(self.model, song, self.folder, source) for source in self.model.sources]
        return np.stack([decode(stem) for stem in stems])

    def _call(self, song: Path, *, compared: bool) -> Usage:
        command = self.program.command(self.model, song, self.folder, compared=compared)
        return run_command(command, log=self.folder / "program.log")


@dataclass(frozen=True, slots=True)
class Unmix:
    """Our `unmix separate`, with the model converted before, as it is from the second song on."""

    precision: str

    @property
    def runs(self) -> str:
        """Its name and precision."""
        return f"unmix separate, {self.precision}"

    def prepare(self, model: BenchModel) -> None:
        """Leave it where `models` has put it."""

    def command(self, model: BenchModel, song: Path, folder: Path, *, compared: bool) -> Sequence[str]:
        """Return the call with all options at their defaults but those that name model and precision.

        It is called more than once for a song, and else would skip what is done.
        """
        return [
            *("env", f"UNMIX_CACHE_DIR={CONVERTED}", str(Path(sys.executable).with_name("unmix")), "separate"),
            *(str(song), "--output", str(folder), "--model", model.name, "--model-dir", model.model_dir),
            *("--precision", self.precision, "--format", "wav" if compared else "mp3", "--again"),
        ]

    def stem(self, model: BenchModel, song: Path, folder: Path, source: str) -> Path:
        """Return the file of one stem."""
        return folder / song.stem / f"{source}.wav"


@dataclass(frozen=True, slots=True)
class DemucsInfer:
    """demucs-infer, demucs without what trains it; its command line is demucs'."""

    @property
    def runs(self) -> str:
        """Its name and version."""
        return _version("demucs-infer")

    def prepare(self, model: BenchModel) -> None:
        """Leave it: demucs-infer reads demucs' form."""

    def command(self, model: BenchModel, song: Path, folder: Path, *, compared: bool) -> Sequence[str]:
        """Return the call at its defaults."""
        output = ["--shifts", "0", "--float32", "--clip-mode", "none"] if compared else ["--mp3"]
        where = ["--name", model.name, "--repo", model.repository, "--out", str(folder)]
        return [_program("demucs-infer"), *where, *output, str(song)]

    def stem(self, model: BenchModel, song: Path, folder: Path, source: str) -> Path:
        """Return the file of one stem."""
        return folder / model.name / song.stem / f"{source}.wav"


@dataclass(frozen=True, slots=True)
class AudioSeparator:
    """audio-separator, which has a copy of demucs of its own. `shifts` are 2 where its users do not say."""

    shifts: int

    @property
    def runs(self) -> str:
        """Its name and version."""
        return _version("audio-separator")

    def prepare(self, model: BenchModel) -> None:
        """Write the list of models that it would fetch, with ours in it, whose files are already there."""
        repository = Path(model.repository)
        weights = {path.name: path.name for path in sorted(repository.glob("*.th"))}
        bag = f"{model.name}.yaml"
        ours = {f"Demucs v4: {model.name}": weights | {bag: bag}}
        lists: dict[str, object] = {key: {} for key in _OTHER_LISTS} | {"demucs_download_list": ours}
        (repository / "download_checks.json").write_text(json.dumps(lists))

    def command(self, model: BenchModel, song: Path, folder: Path, *, compared: bool) -> Sequence[str]:
        """Return the call; its mp3 has 320 kbit/s unless it is told another rate, as demucs' has."""
        output = ["--output_format", "WAV", "--normalization", "1.0"] if compared else ["--output_format", "MP3"]
        return [
            *(_program("audio-separator"), str(song), "--model_filename", f"{model.name}.yaml"),
            *("--model_file_dir", model.repository, "--output_dir", str(folder), *output),
            *("--demucs_shifts", str(0 if compared else self.shifts)),
        ]

    def stem(self, model: BenchModel, song: Path, folder: Path, source: str) -> Path:
        """Return the file of one stem."""
        return folder / f"{song.stem}_({source.capitalize()})_{model.name}.wav"


@dataclass(frozen=True, slots=True)
class DemucsOnnx:
    """demucs-onnx: ONNX Runtime, and no torch. Only the architecture of htdemucs, 7.8 s a window."""

    @property
    def runs(self) -> str:
        """Its name and version, and those of what computes."""
        return f"{_version('demucs-onnx')}, {_version('onnxruntime')}"

    def prepare(self, model: BenchModel) -> None:
        """Let its own exporter write the model, once, to where it keeps what it has fetched as `htdemucs`."""
        if self._cache(model).exists():
            return
        script = str(_ROOT / "benchmarks" / "onnx_export.py")
        command = [_program("python"), script, model.repository, model.name, str(self._cache(model))]
        run_command(command, log=Path(model.repository) / "onnx-export.log")

    def command(self, model: BenchModel, song: Path, folder: Path, *, compared: bool) -> Sequence[str]:
        """Return the call, for the single network instead of its default, a bag of four."""
        output = [] if compared else ["--mp3", "--bitrate", "320k"]
        return [
            *("env", "HF_HUB_OFFLINE=1", _program("demucs-onnx"), "separate", str(song), str(folder)),
            *("--model", "htdemucs", "--cache-dir", str(self._cache(model)), *output),
        ]

    def stem(self, model: BenchModel, song: Path, folder: Path, source: str) -> Path:
        """Return the file of one stem."""
        return folder / f"{source}.wav"

    def _cache(self, model: BenchModel) -> Path:
        return Path(model.repository) / "hub"


def _program(name: str) -> str:
    return str(PEERS / "bin" / name)


def _version(package: str) -> str:
    (site,) = PEERS.glob("lib/python*/site-packages")
    (found,) = importlib.metadata.distributions(name=package, path=[str(site)])
    return f"{package} {found.version}"
