"""The models that are measured, in the two forms that the contestants read, and how much work they are.

Runs as a process of its own, `python -m benchmarks.models FOLDER CONVERT MODEL…`, and leaves `models.json` in the
folder: it needs torch, and whoever measures memory must not map torch's libraries beside the processes that it
measures.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.scratch import CONVERTED

#: The small model in the package.
DEMO: Final = "demo"
#: Stands for htdemucs if it is cached on this machine, else for its architecture with random weights.
FULL: Final = "full"
#: A scale at which every layer counts in the estimates; new models have 1e-4 and 1e-3, trained ones about this.
_LAYER_SCALE: Final = 0.3
_SEED: Final = 0
#: Where models are made for tests.
_TESTS: Final = Path(__file__).parents[1] / "tests"


@dataclass(frozen=True, slots=True)
class BenchModel:
    """One model on disk: for us by `name` (and `model_dir`), for demucs' command line by `name` in `repository`."""

    name: str
    weights: str  # what they are, for the reader of the tables
    model_dir: str
    repository: str
    sources: tuple[str, ...]
    parameters: int
    segment_flop: int  # of one segment: products and sums of convolutions, matrices and attention
    segment_s: float
    stride_s: float  # from one segment to the next, at demucs' overlap

    @property
    def description(self) -> dict[str, Any]:
        """All but where it lies."""
        return {key: value for key, value in asdict(self).items() if key not in ("model_dir", "repository")}


def prepare(folder: Path, names: Sequence[str], *, convert: bool = True) -> list[BenchModel]:
    """Make the models `names` in `folder`, which is new, in a process of their own; `convert` them for the CPU."""
    path = [str(_TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.models", str(folder), str(int(convert)), *names], env=environment, check=True
    )
    made = json.loads((folder / "models.json").read_text())
    return [BenchModel(**{**model, "sources": tuple(model["sources"])}) for model in made]


def main() -> None:
    """Make the models named on the command line."""
    folder = Path(sys.argv[1])
    model_dir, repository = folder / "safetensors", folder / "repository"
    for path in (model_dir, repository):
        path.mkdir(parents=True)
    convert = sys.argv[2] == "1"
    models = [asdict(_make(name, model_dir, repository, convert=convert)) for name in sys.argv[3:]]
    (folder / "models.json").write_text(json.dumps(models))


def _make(name: str, model_dir: Path, repository: Path, *, convert: bool) -> BenchModel:
    from demucs_models import full_htdemucs, save_pickle, save_safetensors
    from unmix.audio.passes import OVERLAP
    from unmix.engine.models import available_offline, load_model
    from unmix.engine.separator import Separator

    weights = "trained by this project (training/)"
    if name == FULL:
        name, weights = "htdemucs", "published"
        if not available_offline(name):
            name, weights = "htdemucs-random", f"random, layer scales {_LAYER_SCALE}"
            save_safetensors(_scaled(full_htdemucs(_SEED)), model_dir / f"{name}.safetensors")
    if convert:  # before anybody is measured
        Separator(load_model(name, model_dir=model_dir), cache_dir=CONVERTED)
    models: Any = load_model(name, model_dir=model_dir).module.models
    (model,) = models
    # A bag of one, as the published htdemucs is: demucs holds the stems of a bag twice.
    signature = f"{name.replace('-', '')}1"
    save_pickle(model, repository, signature)
    (repository / f"{name}.yaml").write_text(json.dumps({"models": [signature]}))
    segment_samples = int(model.samplerate * model.segment)
    return BenchModel(
        name=name,
        weights=weights,
        model_dir=str(model_dir),
        repository=str(repository),
        sources=tuple(model.sources),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        segment_flop=_flop(model, segment_samples),
        segment_s=segment_samples / model.samplerate,
        stride_s=int((1 - OVERLAP) * segment_samples) / model.samplerate,
    )


def _scaled(model: Any) -> Any:
    """Let every layer count: at the scales of an untrained model, errors of the transformer would be invisible."""
    from demucs.transformer import LayerScale

    for module in model.modules():
        if isinstance(module, LayerScale):
            module.scale.data.fill_(_LAYER_SCALE)
    return model


def _flop(model: Any, segment_samples: int) -> int:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter knows neither the fused layer nor the fused attention of the CPU: 85 of 335 GFLOP of htdemucs.
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 2, segment_samples))
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main()
