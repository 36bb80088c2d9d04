"""Small demucs models with seeded random weights, in the shapes of the published ones, saved as demucs saves them."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import yaml
from demucs.demucs import Demucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from safetensors.torch import save_file

torch.set_num_threads(1)  # models this small only lose by more, above all beside other processes

FOUR = ["drums", "bass", "other", "vocals"]
SIX = [*FOUR, "guitar", "piano"]


def htdemucs(seed: int = 0, *, sources: list[str] = FOUR, segment: Fraction = Fraction(1, 4), **changes: Any) -> Any:
    """Return a hybrid transformer, the class of `htdemucs`."""
    torch.manual_seed(seed)
    small = {"channels": 4, "nfft": 1024, "depth": 3, "t_layers": 1, "t_heads": 2, "t_hidden_scale": 1.0}
    model = HTDemucs(sources, segment=segment, **small | {"dconv_mode": 0} | changes).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # They grow in training. A new model's are so small that a wrong transformer could hardly be heard.
            if name.endswith(".scale"):
                parameter.fill_(0.5)
    return model


def tiny_htdemucs(seed: int = 0) -> Any:
    """Return the hybrid transformer that is converted for OpenVINO in the shortest time."""
    return htdemucs(seed, depth=2, t_layers=0)


def full_htdemucs(seed: int = 0) -> Any:
    """Return a model of the architecture of `htdemucs` itself: 41,984,456 parameters."""
    torch.manual_seed(seed)
    return HTDemucs(FOUR, bottom_channels=512, t_layers=5, dconv_mode=3, segment=Fraction(39, 5)).eval()


def hdemucs(seed: int = 0, *, segment: float = 1) -> Any:
    """Return a hybrid model, the class of `hdemucs_mmi`."""
    torch.manual_seed(seed)
    return HDemucs(FOUR, channels=4, nfft=1024, depth=4, segment=segment, dconv_mode=0).eval()


def demucs(seed: int = 0, *, segment: float = 1) -> Any:
    """Return a model in the time domain, the class of half of `mdx`."""
    torch.manual_seed(seed)
    return Demucs(FOUR, channels=4, depth=3, segment=segment, resample=False, lstm_layers=0, dconv_mode=0).eval()


def save_safetensors(model: Any, path: Path, **metadata: str) -> Path:
    """Save `model` in the safetensors form of demucs' own hub; `metadata` overwrites its own."""
    args, kwargs = model._init_args_kwargs
    described = {
        "klass": f"{type(model).__module__}.{type(model).__qualname__}",
        "args": json.dumps(args, default=_encoded),
        "kwargs": json.dumps(kwargs, default=_encoded),
    }
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path, described | metadata)
    return path


def save_pickle(model: Any, folder: Path, signature: str) -> str:
    """Save `model` as `<signature>-<checksum>.th`, as demucs' training does, and return its whole SHA-256."""
    args, kwargs = model._init_args_kwargs
    part = folder / f"{signature}.part"
    torch.save({"klass": type(model), "args": args, "kwargs": kwargs, "state": model.state_dict()}, part)
    sha256 = hashlib.sha256(part.read_bytes()).hexdigest()
    part.rename(folder / f"{signature}-{sha256[:8]}.th")
    return sha256


def save_bag(folder: Path, name: str, models: dict[str, Any], **definition: Any) -> None:
    """Save a bag of models by signature: `<name>.yaml` and a safetensors file for each."""
    for signature, model in models.items():
        save_safetensors(model, folder / f"{signature}.safetensors")
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"models": list(models), **definition}))


def save_ft(folder: Path) -> None:
    """Save a bag in the shape of `htdemucs_ft`: four models, each with all the weight of one source."""
    one_hot = [[float(row == column) for column in range(4)] for row in range(4)]
    save_bag(folder, "htdemucs_ft", {f"f{seed}": htdemucs(seed) for seed in range(4)}, weights=one_hot)


def save_mdx(folder: Path) -> None:
    """Save a bag in the shape of `mdx`: two classes, weights that differ, one segment for all."""
    weights = [[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]]
    models = {"a": demucs(0), "b": demucs(1), "c": hdemucs(2), "d": hdemucs(3)}
    save_bag(folder, "mdx", models, weights=weights, segment=1)


def _encoded(value: Any) -> Any:
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    raise TypeError(f"no JSON form of {value!r}")
