"""Time and memory of a separation: demucs' command line and our engine in turn, on the same songs and weights.

    python -m benchmarks.separate bench         1 and 3 minutes of song, three rounds (`make bench`)
    python -m benchmarks.separate bench-long    20 minutes once, and memory up to an hour (`make bench-long`)
    python -m benchmarks.separate quick --output FOLDER    seconds of song, to see that it works
    python -m benchmarks.separate quick-peers --output FOLDER    the same with the programs beside demucs

Every round measures every contestant once, so that a machine that gets slower meanwhile does so for all. Who is
measured with what is `plans`', how is `measure`'s; `report` makes tables of the JSON that is written here. This process
loads no torch: pages of libraries that it shared with a contestant would make that one look smaller.
"""

import argparse
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from benchmarks import plans, report
from benchmarks.contestants import CommandLineSession, Estimates, Warm, WarmSession
from benchmarks.gemm import gemm_gflops
from benchmarks.measure import Usage
from benchmarks.models import BenchModel, prepare
from benchmarks.plans import Entry, Plan
from benchmarks.programs import PEERS, Cold, Unmix
from benchmarks.scratch import CONVERTED
from benchmarks.songs import looped_song
from unmix.audio.samples import SAMPLE_RATE
from unmix.engine.sdr import sdr_db
from unmix.runtime.shutdown import Shutdown
from unmix.settings import Settings
from unmix_worker.separation import SeparationProcess

_PLANS: Final = {
    "bench": plans.BENCH,
    "bench-long": plans.LONG,
    "quick": plans.QUICK,
    "quick-peers": plans.QUICK_PEERS,
}
#: Prefixes of variables that tune a process: what is measured sets its own, or has none.
_TUNING: Final = ("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "UNMIX_")


def main() -> None:
    """Measure the plan named on the command line and publish what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", choices=_PLANS)
    parser.add_argument("--output", type=Path, help="folder for JSON and page, instead of benchmarks/results and docs")
    options = parser.parse_args()
    plan = _PLANS[options.plan]
    if plan.name == "quick" and not options.output:
        parser.error("quick figures are not for the records: name a folder with --output")
    if not PEERS.exists() and any(_is_a_peer(entry) for entry in plan.entries):
        parser.error("the programs beside demucs are not installed; `make bench` does that")
    for name in [name for name in os.environ if name.startswith(_TUNING)]:
        del os.environ[name]
    started = time.monotonic()
    with TemporaryDirectory(prefix="unmix-benchmarks-") as folder:
        measured = Measurement(plan, Path(folder)).records()
    measured["took_minutes"] = round((time.monotonic() - started) / 60, 1)
    command = f"python -m benchmarks.separate {options.plan}"
    report.publish(plan.name, command, measured, options.output)
    if plan is plans.BENCH:
        report.print_targets(options.output)


class Measurement:
    """One plan being measured."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        names = list(dict.fromkeys(entry.model for entry in plan.entries))
        self._models = dict(zip(names, prepare(folder / "models", names), strict=True))
        self._references: dict[str, Estimates] = {}  # by model
        self._contestants: dict[str, dict[str, Any]] = {}
        self._runs: list[dict[str, Any]] = []
        self._starts: list[dict[str, Any]] = []
        self._gemm: list[dict[str, float]] = []
        self._compared: list[dict[str, Any]] = []

    def records(self) -> dict[str, Any]:
        """Measure, and return all of it in the form of the JSON."""
        if any(entry.contestant is plans.CLI_FLAC or _is_a_peer(entry) for entry in self._plan.entries):
            _provide_ffmpeg(self._folder / "bin")
        for number in range(self._plan.rounds):
            for entry in self._plan.entries:
                if number == 0 or not entry.once:
                    self._run(entry, number)
            for model in self._models.values():
                self._start(model, number)
            if self._plan.gemm_size:
                gflops, _ = gemm_gflops(self._plan.gemm_size)
                self._gemm.append({"round": number, **gflops})
        return {
            "rounds": self._plan.rounds,
            "compared_s": self._plan.compared_seconds,
            "models": [model.description for model in self._models.values()],
            "contestants": self._contestants,
            "runs": self._runs,
            "starts": self._starts,
            "compared": self._compared,
            "gemm_gflops": self._gemm,
        }

    def _run(self, entry: Entry, number: int) -> None:
        """Let one contestant separate its songs."""
        model, contestant = self._models[entry.model], entry.contestant
        songs = [(seconds, looped_song(seconds)) for seconds in entry.song_seconds]
        with TemporaryDirectory(dir=self._folder) as folder, contestant.session(model, Path(folder)) as session:
            self._contestants[contestant.name] = {
                "runs": session.runs,
                "codecs": contestant.codecs,
                "starts": not isinstance(contestant, Warm),  # and loads its model with every song
                "peer": _is_a_peer(entry),
            }
            for seconds, song in songs:
                what = {"model": model.name, "contestant": contestant.name, "song_s": seconds, "round": number}
                record = _noted(what, session.separate(song))
                if isinstance(session, WarmSession) and not contestant.codecs:
                    record["windows"] = session.windows
                self._runs.append(record)
            if number == 0 and self._plan.compared_seconds:
                estimates = session.estimates(looped_song(self._plan.compared_seconds, format="wav"))
                reference = self._references.setdefault(model.name, estimates)
                if estimates is not reference:
                    what = {"model": model.name, "contestant": contestant.name}
                    self._compared.append(what | _compared(reference, estimates, model))

    def _start(self, model: BenchModel, number: int) -> None:
        """Start demucs' command line and the worker's child, each until its model is loaded."""
        command_line = CommandLineSession(model, self._folder, ()).start()
        what = {"model": model.name, "round": number}
        self._starts.append(_noted(what | {"process": "command line"}, command_line))
        os.environ |= {"UNMIX_MODEL": model.name, "UNMIX_MODEL_DIR": model.model_dir, "UNMIX_CACHE_DIR": str(CONVERTED)}
        child = SeparationProcess(Settings())
        started = time.perf_counter()
        child.ensure_ready(Shutdown(grace_seconds=0))
        wall_s = time.perf_counter() - started
        child.close()
        self._starts.append(what | {"process": "worker", "wall_s": round(wall_s, 3)})


def _is_a_peer(entry: Entry) -> bool:
    return isinstance(entry.contestant, Cold) and not isinstance(entry.contestant.program, Unmix)


def _compared(reference: Estimates, estimates: Estimates, model: BenchModel) -> dict[str, float | None]:
    """Return the SNR of all samples, None if they are equal, and that of the samples before the last window."""
    if np.array_equal(estimates, reference):
        return {"snr_db": None, "inner_snr_db": None}
    stride = round(model.stride_s * SAMPLE_RATE)
    last = (reference.shape[-1] - 1) // stride * stride
    inner = sdr_db(reference[..., :last], estimates[..., :last]) if last else None
    return {"snr_db": sdr_db(reference, estimates), "inner_snr_db": inner}


def _noted(what: dict[str, Any], usage: Usage) -> dict[str, Any]:
    """Return the record of one run, and print it for who waits."""
    record = what | {key: round(value, 3) for key, value in asdict(usage).items()}
    print("  ".join(f"{key}={value}" for key, value in record.items()), flush=True)
    return record


def _provide_ffmpeg(folder: Path) -> None:
    """Let `demucs --flac` find an ffmpeg: this machine's, or the one of the package imageio-ffmpeg."""
    if not shutil.which("ffmpeg"):
        import imageio_ffmpeg

        folder.mkdir()
        (folder / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


if __name__ == "__main__":
    main()
