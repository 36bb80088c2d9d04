"""Published models: those that demucs itself lists, from a cache of this machine or over the network.

The names come from demucs' own listing, never from one of ours. The places are those of `demucs.pretrained`, asked
one by one so that each can say why it failed, and caches first: the Hugging Face client tries a host that is away six
times (23 s measured) before it looks at what it has.
"""

import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import huggingface_hub
import torch
import yaml
from demucs.apply import BagOfModels
from demucs.hf import DEFAULT_NAMESPACE, hf_repo_name
from demucs.pretrained import REMOTE_ROOT, _parse_remote_files
from demucs.repo import BagOnlyRepo, RemoteRepo

from unmix.engine.weights import load_safetensors, save_safetensors, unusable
from unmix.errors import ModelUnavailableError

_CONNECT_SECONDS: Final = 5.0


def known_names() -> tuple[str, ...]:
    """Return the names of all models that demucs can download."""
    return tuple(sorted(path.stem for path in REMOTE_ROOT.glob("*.yaml")))


def signatures(name: str) -> list[str]:
    """Return how demucs names the files of weights that make up its model `name`, without extensions."""
    listed: list[str] = yaml.safe_load((REMOTE_ROOT / f"{name}.yaml").read_text())["models"]
    return listed


def load_pretrained(name: str) -> BagOfModels:
    """Load the published model `name` from the first place that has it.

    Raises:
        ModelUnavailableError: no place has it; the message says of each why.
    """
    host = urllib.parse.urlsplit(_download_urls(name)[0]).netloc
    places: tuple[tuple[str, Callable[[str], BagOfModels]], ...] = (
        ("cache of the Hugging Face hub", lambda name: _load_from_hub(name, cached=True)),
        ("cache of torch.hub", _load_from_torch_cache),
        (f"Hugging Face hub, {_hub_repository(name)}", lambda name: _load_from_hub(name, cached=False)),
        (f"download host {host}", _load_from_host),
    )
    reasons = []
    for place, load in places:
        try:
            return load(name)
        except ModelUnavailableError as error:
            reasons.append(f"{place}: {error.message}")
    raise ModelUnavailableError("; ".join(reasons))


def save_pretrained(name: str, bag: BagOfModels, folder: Path) -> None:
    """Write the published model `name` into `folder` as demucs defines it, with its weights as safetensors files."""
    definition = (REMOTE_ROOT / f"{name}.yaml").read_text()
    for signature, model in zip(yaml.safe_load(definition)["models"], bag.models, strict=True):
        save_safetensors(model, folder / f"{signature}.safetensors")
    (folder / f"{name}.yaml").write_text(definition)  # last: with it, the folder has the model


def available_offline(name: str) -> bool:
    """Tell whether every file of the published model `name` lies on this machine."""
    if name not in known_names():
        return False
    if all(path.is_file() for path in _torch_cache_files(name)):
        return True
    repository = _hub_repository(name)
    definition = huggingface_hub.try_to_load_from_cache(repository, f"{name}.yaml")
    if not isinstance(definition, str):
        return False
    listed = yaml.safe_load(Path(definition).read_text())["models"]
    cached = (huggingface_hub.try_to_load_from_cache(repository, f"{signature}.safetensors") for signature in listed)
    return all(isinstance(path, str) for path in cached)


def reachable(name: str, *, seconds: float) -> bool:
    """Tell whether a host that has the published model `name` answers within `seconds`."""
    return name in known_names() and _failure_to_reach(_hub_url(name), seconds) is None


def _load_from_hub(name: str, *, cached: bool) -> BagOfModels:
    if not cached and (failure := _failure_to_reach(_hub_url(name), _CONNECT_SECONDS)):
        raise ModelUnavailableError(failure)
    repository = _hub_repository(name)

    def fetch(filename: str) -> Path:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, filename, local_files_only=cached))
        except (huggingface_hub.errors.HfHubHTTPError, OSError, ValueError) as error:
            raise ModelUnavailableError(f"no {filename}" if cached else f"{filename}: {error}") from error

    with unusable(repository):
        definition = yaml.safe_load(fetch(f"{name}.yaml").read_text())
        models = [load_safetensors(fetch(f"{signature}.safetensors")) for signature in definition["models"]]
        return BagOfModels(models, definition.get("weights"), definition.get("segment"))


def _load_from_torch_cache(name: str) -> BagOfModels:
    missing = [path.name for path in _torch_cache_files(name) if not path.is_file()]
    if missing:
        raise ModelUnavailableError(f"no {', '.join(missing)}")
    return _load_listed(name)


def _load_from_host(name: str) -> BagOfModels:
    if failure := _failure_to_reach(_download_urls(name)[0], _CONNECT_SECONDS):
        raise ModelUnavailableError(failure)
    return _load_listed(name)


def _load_listed(name: str) -> BagOfModels:
    """Load through demucs' own repository of `.th` files: its listing pins the hash of each, torch.hub checks it."""
    with unusable(name):
        repository = RemoteRepo(_parse_remote_files(REMOTE_ROOT / "files.txt"))
        return BagOnlyRepo(REMOTE_ROOT, repository).get_model(name).eval()


def _hub_repository(name: str) -> str:
    return f"{DEFAULT_NAMESPACE}/{hf_repo_name(name)}"


def _hub_url(name: str) -> str:
    return huggingface_hub.hf_hub_url(_hub_repository(name), f"{name}.yaml")


def _download_urls(name: str) -> list[str]:
    """Return the addresses of the `.th` files of the published model `name`."""
    urls = _parse_remote_files(REMOTE_ROOT / "files.txt")
    return [urls[signature] for signature in signatures(name)]


def _torch_cache_files(name: str) -> list[Path]:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return [folder / url.rsplit("/", 1)[1] for url in _download_urls(name)]


def _failure_to_reach(url: str, seconds: float) -> str | None:
    """Ask for `url` and return why there is no answer within `seconds`; None if there is one."""
    failure: list[Any] = [f"no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                failure[0] = None
        except urllib.error.HTTPError as error:
            failure[0] = f"HTTP status {error.code}"
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            failure[0] = f"cannot be reached: {getattr(reason, 'strerror', None) or reason}"

    # In a thread, because no timeout bounds the resolution of a name.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    reason: str | None = failure[0]
    return reason
