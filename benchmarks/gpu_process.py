"""A process that separates songs on one device, several at once, and says what that took: the workers of `gpu`.

Its argument, JSON, says which model, device and engine. One task per line of JSON on standard input, one answer per
line on standard output, the first when the model is loaded and has separated a short song.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import psutil
import torch
from torch import Tensor

from benchmarks.scratch import CONVERTED
from unmix.audio.encode import StemWriter
from unmix.audio.level import Level
from unmix.audio.song_reader import SongReader
from unmix.engine import backends
from unmix.engine.device_estimator import DeviceEstimator
from unmix.engine.estimators import Estimator, TorchEstimator
from unmix.engine.models import LoadedModel, load_model
from unmix.engine.separator import Separator
from unmix.engine.stems import plan_stems
from unmix.engine.transfer import delivered, on_device, rounded

_ENGINES: Final[dict[str, Callable[..., Estimator]]] = {"eager": TorchEstimator, "device": DeviceEstimator}
_CHUNK: Final = 65_536  # samples, as a song is decoded
_REPEATS: Final = 5
_GEMM_SIZE: Final = 8192


def main() -> None:
    """Load the model, then do every task until standard input ends."""
    configuration = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    if "model" not in configuration:
        answers.write(json.dumps(described(configuration["device"])) + "\n")
        return
    process = Process(**configuration)
    process.separate([configuration["warm_up"]], None)
    answers.write(json.dumps({"runs": process.runs}) + "\n")
    for line in sys.stdin:
        task = json.loads(line)
        if task["do"] == "separate":
            answer = process.separate(task["songs"], task["format"])
        else:
            answer = process.stages(task["song"])
        answers.write(json.dumps(answer) + "\n")


class Process:
    """One model on one device, run by the named engine."""

    def __init__(
        self, *, model: str, model_dir: str, device: str, engine: str, at_once: int, out: str, **_: Any
    ) -> None:
        self._device = torch.device(device)
        self._at_once = at_once
        self._out = Path(out)

        def estimators(loaded: LoadedModel, *, device: str, bf16: bool) -> Sequence[Estimator]:
            return [_ENGINES[engine](part, device=device, bf16=bf16) for part in loaded.module.models]

        loaded = load_model(model, model_dir=Path(model_dir))
        with patch.object(backends, "_torch_estimators", estimators):
            self._separator = Separator(
                loaded, device=device, backend="torch", precision="fast", cache_dir=CONVERTED, at_once=at_once
            )
        self.runs = f"{self._separator.backend}, {self._separator.precision}"

    def separate(self, songs: Sequence[str], format: str | None) -> dict[str, float]:
        """Separate the songs, so many at once as was said, into files, or for None from samples to rounded samples."""
        work: list[Callable[[], object]]
        if format is None:
            mixtures = {song: _decoded(Path(song)) for song in dict.fromkeys(songs)}
            work = [partial(self._separate_samples, mixtures[song]) for song in songs]
        else:
            work = [
                partial(self._separator.separate_file, Path(song), self._out / str(number), format=format)
                for number, song in enumerate(songs)
            ]
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        started, cpu_before = time.perf_counter(), _cpu_seconds()
        with ThreadPoolExecutor(self._at_once) as threads:
            for each in [threads.submit(do) for do in work]:
                each.result()
        usage = {"wall_s": time.perf_counter() - started, "cpu_s": _cpu_seconds() - cpu_before}
        if self._device.type == "cuda":
            usage["torch_peak_mb"] = torch.cuda.max_memory_reserved(self._device) / 1e6
        return usage

    @torch.inference_mode()
    def stages(self, song: str) -> dict[str, float]:
        """Return what each step of one full batch takes, in ms per window; a step is waited for before the next."""
        estimator = self._separator._engine.estimators[0]
        assert isinstance(estimator, DeviceEstimator)
        batch, model, network = estimator.batch, estimator.model, estimator.network
        samples = network.transforms.samples
        mixture = _decoded(Path(song))
        one = mixture[:, :samples].repeat(1, -(-samples // mixture.shape[1]))[:, :samples]
        there = on_device(one, self._device)
        windows = there.expand(batch, -1, -1).contiguous()
        spectra = network.transforms.spectra(windows)
        magnitudes = model._magnitude(spectra)
        inputs = [magnitudes.to(network.dtype), windows.to(network.dtype)]
        restorable = spectra[:, None].expand(-1, len(model.sources), -1, -1, -1).transpose(3, 4)
        estimates = estimator(windows, range(len(model.sources)))
        steps: dict[str, tuple[int, Callable[[], object]]] = {
            "decoding, CPU, once": (1, partial(_decoded, Path(song))),
            "level, CPU": (1, partial(Level.of, [one.numpy()])),
            "to the device": (1, partial(on_device, one, self._device)),
            "STFT": (batch, partial(network.transforms.spectra, windows)),
            "network, told call by call": (batch, partial(network.network, *inputs)),
            "network, recorded": (batch, partial(network.between(batch), *inputs)),
            "inverse STFT": (batch, partial(network.transforms.waves, restorable)),
            "all of a batch": (batch, partial(estimator, windows, range(len(model.sources)))),
            "rounding": (1, partial(rounded, list(estimates[0]))),
            "from the device": (1, rounded(list(estimates[0]))[0].cpu),
            "mp3 of all stems, CPU": (1, partial(self._encode, estimates[0].cpu().numpy(), "mp3")),
        }
        share = samples / mixture.shape[1]  # of the song in a window
        return {
            name: self._milliseconds(step) / windows_done * (share if name.startswith("decoding") else 1)
            for name, (windows_done, step) in steps.items()
        }

    @torch.inference_mode()
    def _separate_samples(self, mixture: Tensor) -> None:
        plan = plan_stems(self._separator.model, (), mixture_consistency=False)
        chunks = mixture.split(_CHUNK, dim=-1)
        stretches = self._separator.stretches(
            lambda _: (chunks, 0), Level.of(chunk.numpy() for chunk in chunks), plan.sources, lambda done, total: None
        )
        for _ in delivered(plan.stems(*stretch) for stretch in stretches):
            pass

    def _encode(self, stems: Any, format: str) -> None:
        for number, stem in enumerate(stems):
            writer = StemWriter(self._out / f"{number}.{format}", format=format)
            writer.write(stem)
            writer.close()

    def _milliseconds(self, step: Callable[[], object]) -> float:
        return 1000 * min(_seconds(step, self._device) for _ in range(_REPEATS))


def described(device_name: str) -> dict[str, Any]:
    """Return what a reader needs to know of the device, with the best product of two matrices in GFLOP/s by type."""
    device = torch.device(device_name)
    size = _GEMM_SIZE if device.type == "cuda" else 1024
    peaks = {}
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left, right = torch.rand(2, size, size, device=device, dtype=dtype)
        torch.mm(left, right)
        peaks[name] = 2 * size**3 / min(_seconds(partial(torch.mm, left, right), device) for _ in range(_REPEATS)) / 1e9
    if device.type != "cuda":
        return {"name": device_name, "peak_gflops": peaks}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "peak_gflops": peaks,
    }


def _cpu_seconds() -> float:
    """Return the processor time of this process and of those that decode and encode for it."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children())]
    return float(sum(each.user + each.system for each in times))


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _decoded(song: Path) -> Tensor:
    return torch.from_numpy(np.concatenate(list(SongReader(song)), axis=1))


if __name__ == "__main__":
    main()
