"""Files of weights: from one file to one demucs model and back, without running code that nobody vouched for.

A safetensors file holds numbers, yet its metadata names classes that demucs imports: only the ones listed here may be
named. A `.th` file is a pickle, which is a program: it is opened only if its operator listed its SHA-256. Which file
belongs to which model name is for `models` and `pretrained`.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import torch
import yaml
from demucs.apply import BagOfModels
from demucs.hf import load_safetensors_model
from demucs.states import load_model
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from unmix.errors import ModelUnavailableError

_MODEL_CLASSES: Final = frozenset({"demucs.demucs.Demucs", "demucs.hdemucs.HDemucs", "demucs.htdemucs.HTDemucs"})
#: Quantised models (`mdx_q`) name their quantiser too.
_STATE_CLASSES: Final = _MODEL_CLASSES | {"diffq.diffq.DiffQuantizer", "diffq.uniform.UniformQuantizer"}


def load_safetensors(path: Path) -> Any:
    """Load the demucs model in the safetensors file at `path`.

    Raises:
        ModelUnavailableError: it is not in demucs' format, or names a class that is no model of demucs.
    """
    with unusable(path.name):
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
        named = {metadata["klass"]} - _MODEL_CLASSES
        named |= set(_classes_in(json.loads(metadata.get("structure", "null")))) - _STATE_CLASSES
        if named:
            raise ModelUnavailableError(f"{path.name}: its metadata names {', '.join(sorted(named))}, no demucs model")
        return load_safetensors_model(path).eval()


def load_pickle(path: Path, *, trusted_weights: frozenset[str]) -> Any:
    """Load the demucs model in the `.th` file at `path`, if its SHA-256 is among `trusted_weights`.

    Raises:
        ModelUnavailableError: nobody vouched for the file, or it holds no demucs model.
    """
    with unusable(path.name):
        data = path.read_bytes()  # once: what was hashed is what is unpickled
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in trusted_weights:
            raise ModelUnavailableError(f"{path.name}: a .th file can run code and its SHA-256 {sha256} is not trusted")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of older torch versions
            package = torch.load(io.BytesIO(data), "cpu", weights_only=False)
        klass = package["klass"]
        if f"{klass.__module__}.{klass.__qualname__}" not in _MODEL_CLASSES:
            raise ModelUnavailableError(f"{path.name}: holds a {klass.__qualname__}, no demucs model")
        return load_model(package).eval()  # type: ignore[no-untyped-call]


def save_safetensors(model: Any, path: Path) -> None:
    """Write a demucs model to `path` in the form that `load_safetensors` reads; numbers and arguments stay the same."""
    args, kwargs = model._init_args_kwargs
    metadata = {
        "klass": f"{type(model).__module__}.{type(model).__qualname__}",
        "args": json.dumps(args, default=_encoded_fraction),
        "kwargs": json.dumps(kwargs, default=_encoded_fraction),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    path.write_bytes(save(tensors, metadata))


@contextmanager
def unusable(what: str) -> Iterator[None]:
    """Turn whatever demucs, torch and safetensors raise for weights that cannot be used into one error."""
    try:
        yield
    except SystemExit as error:  # demucs ends the process where its optional dependency diffq is missing
        raise ModelUnavailableError(f"{what}: quantised weights need the package diffq") from error
    except ImportError as error:
        raise ModelUnavailableError(f"{what}: {error}") from error
    except (
        SafetensorError,
        OSError,
        AssertionError,
        AttributeError,
        EOFError,
        KeyError,
        RuntimeError,
        TypeError,
        ValueError,
        yaml.YAMLError,
    ) as error:
        raise ModelUnavailableError(f"{what}: not usable: {type(error).__name__}: {error}") from error


def digest(bag: BagOfModels) -> str:
    """Return the SHA-256 over everything that decides a model's numbers, as 64 hex digits.

    For each model of the bag in order: class, constructor arguments and segment as JSON, then name, type, shape and
    bytes of every tensor of its state, sorted by name; at last the bag's weights. It is the same whether the weights
    came as safetensors or `.th`, and takes about 0.2 s per 42 M parameters.
    """
    sha256 = hashlib.sha256()
    models: Any = bag.models
    for model in models:
        args, kwargs = model._init_args_kwargs
        made = [type(model).__qualname__, args, kwargs, str(model.segment)]
        sha256.update(json.dumps(made, sort_keys=True, default=str).encode())
        for name, tensor in sorted(model.state_dict().items()):
            sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha256.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    sha256.update(json.dumps(bag.weights).encode())
    return sha256.hexdigest()


def _classes_in(node: Any) -> Iterator[str]:
    """Yield every class that the nested state of a quantised model names."""
    if isinstance(node, dict):
        if isinstance(node.get("_class"), str):
            yield node["_class"]
        for item in node.values():
            yield from _classes_in(item)
    elif isinstance(node, list):
        for item in node:
            yield from _classes_in(item)


def _encoded_fraction(value: Any) -> dict[str, Any]:
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    raise TypeError(f"no JSON form of {value!r}")
