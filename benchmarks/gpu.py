"""One GPU, measured in one run of at most six minutes: demucs' command line, its module as it is, and our path.

    python -m benchmarks.gpu                                                        on a machine with a GPU
    python -m benchmarks.gpu --device cpu --model demo --seconds 4 --output FOLDER  to see that it works

Each engine runs in processes of its own (`gpu_process`), one song at a time and several at once, with and without
codecs; then several workers share the GPU, the second time under NVIDIA's MPS where that is installed. What comes last
is left out when the time is over, and the page says so. This process loads no torch.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks import report
from benchmarks.contestants import CommandLineSession
from benchmarks.gpu_device import DeviceMemory, OutOfTimeError, Process, mps, nvidia_smi
from benchmarks.gpu_table import DEMUCS, table
from benchmarks.models import DEMO, FULL, prepare
from benchmarks.songs import looped_song

_WORKERS: Final = 4
_WARM_UP_SECONDS: Final = 10


def main() -> None:
    """Measure and publish; ends with 1 where there is no such device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", choices=[FULL, DEMO], default=FULL)
    parser.add_argument("--seconds", type=float, default=180, help="length of a song")
    parser.add_argument("--songs", type=int, default=8, help="songs at once")
    parser.add_argument("--minutes", type=float, default=6, help="longest time of the run")
    parser.add_argument("--output", type=Path, help="folder for JSON and page, instead of benchmarks/results and docs")
    options = parser.parse_args()
    if options.device == "cpu" and not options.output:
        parser.error("figures of a CPU are not for the records: name a folder with --output")
    started = time.monotonic()
    with TemporaryDirectory(prefix="unmix-gpu-") as folder:
        try:
            device = _ask(
                {"device": options.device}, Path(folder) / "device.log", deadline=started + 60 * options.minutes
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[-1]
            sys.exit(f"nothing was measured: torch cannot compute on {options.device} here ({reason})")
        measured = Measurement(options, Path(folder), started + 60 * options.minutes).records()
    measured |= {
        "device": device | {"driver": nvidia_smi("driver_version")},
        "song_s": options.seconds,
        "took_minutes": round((time.monotonic() - started) / 60, 1),
    }
    report.publish("gpu", "python -m benchmarks.gpu", measured, options.output)
    print(table(measured))


class Measurement:
    """One run."""

    def __init__(self, options: argparse.Namespace, folder: Path, deadline: float) -> None:
        self._device: str = options.device
        self._songs: int = options.songs
        self._song = looped_song(options.seconds)
        self._folder = folder
        self._deadline = deadline
        (self._model,) = prepare(folder / "models", [options.model], convert=False)
        self._rows: list[dict[str, Any]] = []
        self._left_out: list[str] = []

    def records(self) -> dict[str, Any]:
        """Measure, and return all of it in the form of the JSON."""
        stages: dict[str, float] = {}
        for measure in (self._demucs, self._eager, self._one, self._several, self._workers, self._workers_under_mps):
            try:
                stages |= measure() or {}
            except OutOfTimeError:
                self._left_out.append(measure.__name__.strip("_").replace("_", " "))
        return {"model": self._model.description, "rows": self._rows, "stages_ms": stages, "left_out": self._left_out}

    def _demucs(self) -> None:
        session = CommandLineSession(self._model, self._folder, ("--device", self._device, "--mp3"))
        with DeviceMemory() as memory:
            usage = session.separate(self._song)
        start = session.start()
        self._note(DEMUCS, 1, "mp3", usage.wall_s, usage.cpu_s, memory.peak_mb)
        self._note(
            f"{DEMUCS}, without its start", 1, "mp3", usage.wall_s - start.wall_s, usage.cpu_s - start.cpu_s, None
        )

    def _eager(self) -> None:
        self._separated("torch as demucs wrote it", "eager", 1, (None,))

    def _one(self) -> dict[str, float]:
        return self._separated("ours", "device", 1, (None, "mp3"), with_stages=True)

    def _several(self) -> None:
        self._separated("ours", "device", self._songs, (None, "wav", "mp3"))

    def _workers(self) -> None:
        self._shared_device(f"ours, {_WORKERS} workers", {})

    def _workers_under_mps(self) -> None:
        with mps(self._folder) as environment:
            if environment is not None:
                self._shared_device(f"ours, {_WORKERS} workers under MPS", environment)

    def _separated(
        self, name: str, engine: str, at_once: int, formats: Sequence[str | None], *, with_stages: bool = False
    ) -> dict[str, float]:
        with DeviceMemory() as memory, self._process(engine, at_once, 0) as process:
            for format in formats:
                usage = process.do({"do": "separate", "songs": [str(self._song)] * at_once, "format": format})
                self._note(name, at_once, format, usage["wall_s"], usage["cpu_s"], memory.peak_mb)
            return process.do({"do": "stages", "song": str(self._song)}) if with_stages else {}

    def _shared_device(self, name: str, environment: Mapping[str, str]) -> None:
        """Let several workers separate the songs, each one after the other."""
        with DeviceMemory() as memory, ExitStack() as running:
            workers = [
                running.enter_context(self._process("device", 1, number, environment)) for number in range(_WORKERS)
            ]
            each = -(-self._songs // _WORKERS)
            started = time.perf_counter()
            for worker in workers:
                worker.tell({"do": "separate", "songs": [str(self._song)] * each, "format": "mp3"})
            usages = [worker.answer() for worker in workers]
            wall_s = time.perf_counter() - started
        self._note(name, each * _WORKERS, "mp3", wall_s, sum(usage["cpu_s"] for usage in usages), memory.peak_mb)

    @contextmanager
    def _process(
        self, engine: str, at_once: int, number: int, environment: Mapping[str, str] | None = None
    ) -> Iterator[Process]:
        out = self._folder / f"worker-{number}"
        out.mkdir(exist_ok=True)
        configuration = {
            "model": self._model.name,
            "model_dir": self._model.model_dir,
            "device": self._device,
            "engine": engine,
            "at_once": at_once,
            "out": str(out),
            "warm_up": str(looped_song(_WARM_UP_SECONDS)),
        }
        with Process(configuration, out / "log", deadline=self._deadline, environment=environment) as process:
            process.answer()
            yield process

    def _note(
        self, name: str, songs: int, format: str | None, wall_s: float, cpu_s: float, memory_mb: float | None
    ) -> None:
        row = {"name": name, "songs": songs, "format": format, "wall_s": wall_s, "cpu_s": cpu_s, "gpu_mb": memory_mb}
        self._rows.append(row)
        print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)


def _ask(configuration: Mapping[str, Any], log: Path, *, deadline: float) -> dict[str, Any]:
    with Process(configuration, log, deadline=deadline) as process:
        return process.answer()


if __name__ == "__main__":
    main()
