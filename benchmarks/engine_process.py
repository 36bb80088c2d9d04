"""A process that holds one loaded model and separates what it is told to: the warm worker of the benchmarks.

It runs the engine as `unmix_worker.child` does, in the environment of that child, with neither lease nor store around
it. Its argument, JSON, says which model and which engine; `contestants` has both ends of what they say to each other:
one task per line of JSON on standard input, one answer per line on standard output, the first when the model is loaded.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demucs.apply import apply_model
from torch import Tensor

from benchmarks.scratch import CONVERTED
from unmix.audio.level import Level
from unmix.audio.passes import OVERLAP
from unmix.audio.song_reader import SongReader
from unmix.engine.models import LoadedModel, load_model
from unmix.engine.separator import Separator


class Ours:
    """The engine of this project."""

    def __init__(self, model: LoadedModel, options: dict[str, Any]) -> None:
        self.windows = 0  # of the last song
        self.separator = Separator(model, cache_dir=CONVERTED, **options)
        self.runs = f"{self.separator.backend}, {self.separator.precision}, {torch.get_num_threads()} threads"

    def estimates(self, mixture: Tensor) -> Tensor:
        """Separate `mixture`, float32 (2, time), into (sources, 2, time), in segments as `separate_file` does."""
        sources = self.separator.model.sources
        with torch.inference_mode():
            level = Level.of([mixture.numpy()])
            stretches = self.separator.stretches(lambda _: ([mixture], 0), level, sources, self._count)
            return torch.cat([estimates for _, estimates in stretches], dim=-1)

    def _count(self, done: int, total: int) -> None:
        self.windows = total


class Reference:
    """demucs as a library: `apply_model` on the whole song in float32, without shifts."""

    def __init__(self, model: LoadedModel) -> None:
        torch.backends.mha.set_fastpath_enabled(False)  # as in our separator: 1.08 times faster without
        self.windows = 0  # of the last song
        self._model = model.module
        self.runs = f"torch {torch.__version__}, float32, {torch.get_num_threads()} threads"

    def estimates(self, mixture: Tensor) -> Tensor:
        """Separate `mixture`, float32 (2, time), into (sources, 2, time); normalised as demucs' command line does."""
        mono = mixture.mean(0)
        mean, std = mono.mean(), mono.std() + 1e-8
        with torch.no_grad():
            estimates: Tensor = apply_model(self._model, ((mixture - mean) / std)[None], shifts=0, overlap=OVERLAP)[0]
        model: Any = self._model.models[0]
        self.windows = math.ceil(mixture.shape[-1] / int((1 - OVERLAP) * int(model.samplerate * model.segment)))
        return estimates * std + mean


def main() -> None:
    """Load the model, then do every task until standard input ends."""
    configuration = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    model = load_model(configuration["model"], model_dir=Path(configuration["model_dir"]))
    options = configuration["separator"]
    engine = Reference(model) if options is None else Ours(model, options)
    answers.write(json.dumps({"runs": engine.runs}) + "\n")
    mixture, estimates = torch.zeros(2, 0), torch.zeros(0, 2, 0)
    for line in sys.stdin:
        task = json.loads(line)
        if task["do"] == "separate file":
            assert isinstance(engine, Ours)
            engine.separator.separate_file(Path(task["song"]), Path(task["out"]), **task["options"])
        elif task["do"] == "decode":
            mixture = torch.from_numpy(np.concatenate(list(SongReader(Path(task["song"]))), axis=1))
        elif task["do"] == "separate samples":
            estimates = engine.estimates(mixture)
        elif task["do"] == "save":
            np.save(task["path"], estimates.numpy())
        answers.write(json.dumps({"windows": engine.windows}) + "\n")


if __name__ == "__main__":
    main()
