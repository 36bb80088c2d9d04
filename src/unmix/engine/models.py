"""Models by name: find the weights, load them once, and say exactly what was loaded.

The one way in is `load_model`. A name means the shipped `demo` model, a file in the operator's model folder, or a
model that demucs publishes, in this order; a name that is none of these is an error that tells every place looked.
Never does another model stand in. `separator` runs what is loaded here.
"""

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from demucs.apply import BagOfModels

from unmix.engine import pretrained, provenance
from unmix.engine.provenance import Provenance
from unmix.engine.weights import digest, load_pickle, load_safetensors, unusable
from unmix.errors import ModelUnavailableError
from unmix.names import DEMO_MODEL

#: The small model in this package: it makes everything run offline, and is no match for the published ones.
DEMO: Final = DEMO_MODEL

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SOURCE: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory; `module` is a bag, of one where a model stands alone."""

    name: str
    sources: tuple[str, ...]  # the stems it can make, in its own order
    sample_rate: int  # Hz
    channels: int
    segment_samples: int  # of its longest window, at `sample_rate`
    weights_sha256: str  # see `weights.digest`
    weights_source: str  # where the weights come from, see `provenance`
    weights_licence: str  # what is known of their licence
    module: BagOfModels

    @property
    def weights_notice(self) -> str:
        """One line on where the weights come from and under which licence they are."""
        return f"{self.name}: weights from {self.weights_source}; their licence: {self.weights_licence}"


def is_model_name(name: str) -> bool:
    """Tell whether `name` has the form of a model's name: no path, no address, no extension."""
    return _NAME.fullmatch(name) is not None


def load_model(
    name: str, *, model_dir: Path | None = None, trusted_weights: frozenset[str] = frozenset()
) -> LoadedModel:
    """Load the model `name` into memory, ready to run on the CPU.

    `model_dir` holds `<name>.safetensors`, or `<name>.yaml` beside the `.safetensors` or `.th` files that it lists, or
    `<name>.th`; a `.th` file is loaded only if its SHA-256 is among `trusted_weights`. A file that lies there and
    cannot be used is an error: the published model of the same name does not stand in for it.

    Raises:
        ModelUnavailableError: the weights cannot be had; says where they were looked for and what helps.
    """
    if not is_model_name(name):
        raise ModelUnavailableError("a model's name consists of letters, digits, '_' and '-'")
    try:
        bag, origin = _load_bag(name, model_dir, trusted_weights)
        return _described(name, bag, origin)
    except ModelUnavailableError as error:
        raise ModelUnavailableError(
            f"model {name!r} is not available. Check the name, go online once, put its files into the folder "
            f"UNMIX_MODEL_DIR, or take the small model that is always here: --model {DEMO}. Looked for: {error.message}"
        ) from error


def fetch_model(name: str, model_dir: Path, *, trusted_weights: frozenset[str] = frozenset()) -> LoadedModel:
    """Put the published model `name` into the folder `model_dir`, unless it is there, and return it.

    The demo model stays where it is, in this package.

    Raises:
        ModelUnavailableError: as `load_model`.
        OSError: the folder cannot be written.
    """
    model = load_model(name, model_dir=model_dir, trusted_weights=trusted_weights)
    if name == DEMO or _has_files(model_dir, name):
        return model
    model_dir.mkdir(parents=True, exist_ok=True)
    pretrained.save_pretrained(name, model.module, model_dir)
    if load_model(name, model_dir=model_dir).weights_sha256 != model.weights_sha256:
        (model_dir / f"{name}.yaml").unlink()
        raise ModelUnavailableError(f"model {name!r} was published with another definition than this demucs knows")
    return model


def available_offline(name: str, *, model_dir: Path | None = None) -> bool:
    """Tell whether the files of model `name` lie on this machine."""
    return name == DEMO or (model_dir is not None and _has_files(model_dir, name)) or pretrained.available_offline(name)


def _load_bag(name: str, model_dir: Path | None, trusted_weights: frozenset[str]) -> tuple[BagOfModels, Provenance]:
    if name == DEMO:
        with resources.as_file(resources.files("unmix.engine") / "weights" / "demo.safetensors") as path:
            return BagOfModels([load_safetensors(path)]), provenance.DEMO
    if model_dir is None:
        looked = "Model folder: UNMIX_MODEL_DIR is not set"
    elif _has_files(model_dir, name):
        return _load_local(model_dir, name, trusted_weights)
    else:
        looked = f"Model folder {model_dir}: no {name}.safetensors, {name}.yaml or {name}.th"
    if name not in pretrained.known_names():
        raise ModelUnavailableError(f"{looked}; published by demucs: {', '.join(pretrained.known_names())}")
    try:
        return pretrained.load_pretrained(name), provenance.published(name)
    except ModelUnavailableError as error:
        raise ModelUnavailableError(f"{looked}; {error.message}") from error


def _has_files(model_dir: Path, name: str) -> bool:
    safetensors, definition = model_dir / f"{name}.safetensors", model_dir / f"{name}.yaml"
    return safetensors.is_file() or definition.is_file() or bool(_pickles(model_dir, name))


def _load_local(model_dir: Path, name: str, trusted_weights: frozenset[str]) -> tuple[BagOfModels, Provenance]:
    """Load `name` from the operator's folder: one file, or a bag in the manner of a demucs repository.

    A bag of exactly the files that demucs lists is taken for a copy of what it publishes: `fetch_model` makes those.
    """
    definition = model_dir / f"{name}.yaml"
    if (model_dir / f"{name}.safetensors").is_file() or not definition.is_file():
        return BagOfModels([_load_one(model_dir, name, trusted_weights)]), provenance.OPERATORS
    with unusable(definition.name):
        bag = yaml.safe_load(definition.read_text())
        models = [_load_one(model_dir, signature, trusted_weights) for signature in bag["models"]]
        is_copy = name in pretrained.known_names() and bag["models"] == pretrained.signatures(name)
        origin = provenance.published(name) if is_copy else provenance.OPERATORS
        return BagOfModels(models, bag.get("weights"), bag.get("segment")), origin


def _load_one(model_dir: Path, signature: str, trusted_weights: frozenset[str]) -> Any:
    if not is_model_name(signature):
        raise ModelUnavailableError(f"{signature!r} is no name of a file of weights")
    safetensors = model_dir / f"{signature}.safetensors"
    if safetensors.is_file():
        return load_safetensors(safetensors)
    pickles = _pickles(model_dir, signature)
    if len(pickles) != 1:
        raise ModelUnavailableError(f"{len(pickles) or 'no'} files of weights for {signature} in {model_dir}")
    return load_pickle(pickles[0], trusted_weights=trusted_weights)


def _pickles(model_dir: Path, signature: str) -> list[Path]:
    """Return the files `<signature>.th` and `<signature>-<checksum>.th`."""
    return [
        path for path in model_dir.glob("*.th") if path.stem.rsplit("-", 1)[0] == signature or path.stem == signature
    ]


def _described(name: str, bag: BagOfModels, origin: Provenance) -> LoadedModel:
    """Check what the engine relies on and describe the model."""
    if bag.audio_channels != 2:
        raise ModelUnavailableError(f"it takes {bag.audio_channels} channels, songs have 2")
    if not all(_SOURCE.fullmatch(source) for source in bag.sources):
        raise ModelUnavailableError("its sources have names that cannot name files")
    if not all(sum(weights) > 0 for weights in zip(*bag.weights, strict=True)):
        raise ModelUnavailableError("a source gets no model's weight")
    return LoadedModel(
        name=name,
        sources=tuple(bag.sources),
        sample_rate=int(bag.samplerate),
        channels=int(bag.audio_channels),
        segment_samples=max(int(bag.samplerate * model.segment) for model in bag.models),
        weights_sha256=digest(bag),
        weights_source=origin.source,
        weights_licence=origin.licence,
        module=bag.eval(),
    )
