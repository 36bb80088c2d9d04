"""Published models come from a cache or over the network; where neither has them, the error says so, and soon."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import demucs.pretrained
import huggingface_hub.constants
import pytest
import torch
import yaml
from demucs.pretrained import REMOTE_ROOT

from command_line import unmix
from demucs_models import hdemucs, htdemucs, save_bag, save_ft
from support import free_port
from unmix.engine import pretrained
from unmix.engine.models import available_offline, fetch_model, load_model
from unmix.errors import ModelUnavailableError


class Host:
    """Stands in for the Hugging Face hub and for demucs' download host: serves the files of a folder."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers = threading.Event()
        self.answers.set()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                host.answers.wait()
                content = host.files.get(self.path.rsplit("/", 1)[1])
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
                self.end_headers()

            def do_GET(self) -> None:
                self.do_HEAD()
                self.wfile.write(host.files.get(self.path.rsplit("/", 1)[1], b""))

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()  # ends at once

    def serve_folder(self, folder: Path) -> None:
        self.files |= {path.name: path.read_bytes() for path in folder.iterdir()}

    def stop(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start with empty caches, and with hosts where nobody listens."""
    home = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    go_to(f"http://127.0.0.1:{free_port()}", monkeypatch)
    yield
    torch.hub.set_dir(home)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host()
    go_to(host.url, monkeypatch)
    yield host
    host.stop()


def go_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(demucs.pretrained, "ROOT_URL", url + "/")


def publish_htdemucs(folder: Path) -> Path:
    folder.mkdir()
    save_bag(folder, "htdemucs", {"955717e8": htdemucs(7)})
    return folder


def test_the_names_are_those_that_demucs_lists() -> None:
    assert {"htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi", "mdx", "mdx_q"} <= set(pretrained.known_names())


def test_weights_that_cannot_be_had_are_an_error_that_says_where_it_looked_and_what_helps() -> None:
    with pytest.raises(ModelUnavailableError) as caught:
        load_model("htdemucs")
    message = caught.value.message
    for part in ("htdemucs", "adefossez/HTDemucs", "cache of torch.hub", "refused", "127.0.0.1", "UNMIX_MODEL_DIR"):
        assert part in message
    assert not available_offline("htdemucs")


def test_the_hub_client_with_its_many_retries_is_not_asked_if_the_hub_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    download = huggingface_hub.hf_hub_download

    def spy(repository: str, filename: str, *, local_files_only: bool) -> str:
        asked.append(local_files_only)
        return download(repository, filename, local_files_only=local_files_only)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", spy)
    with pytest.raises(ModelUnavailableError):
        load_model("htdemucs")
    assert asked == [True]


def test_a_host_that_accepts_and_never_answers_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_CONNECT_SECONDS", 0.2)
    host.answers.clear()
    with pytest.raises(ModelUnavailableError, match=r"no answer within 0\.2 s|timed out"):
        load_model("htdemucs")
    assert not pretrained.reachable("htdemucs", seconds=0.2)


def test_a_published_model_is_downloaded_once_and_then_loaded_without_network(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.serve_folder(publish_htdemucs(tmp_path / "published"))
    assert pretrained.reachable("htdemucs", seconds=5)
    assert not available_offline("htdemucs")
    downloaded = load_model("htdemucs")
    go_to(f"http://127.0.0.1:{free_port()}", monkeypatch)
    assert not pretrained.reachable("htdemucs", seconds=5)
    assert available_offline("htdemucs")
    assert load_model("htdemucs").weights_sha256 == downloaded.weights_sha256


def test_a_bag_that_is_cached_only_in_part_is_not_available_offline(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "published").mkdir()
    save_ft(tmp_path / "published")
    host.serve_folder(tmp_path / "published")
    del host.files["f3.safetensors"]
    with pytest.raises(ModelUnavailableError, match=r"f3\.safetensors"):
        load_model("htdemucs_ft")
    assert not available_offline("htdemucs_ft")


def publish(host: Host, folder: Path, name: str, models: list[Any]) -> None:
    """Publish models under the definition that demucs has of the bag `name`."""
    folder.mkdir()
    definition = yaml.safe_load((REMOTE_ROOT / f"{name}.yaml").read_text())
    save_bag(folder, name, dict(zip(definition.pop("models"), models, strict=True)), **definition)
    host.serve_folder(folder)


def empty_caches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "empty"))
    go_to(f"http://127.0.0.1:{free_port()}", monkeypatch)


def test_a_fetched_model_needs_neither_network_nor_cache(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(host, tmp_path / "published", "htdemucs", [htdemucs(7)])
    published = load_model("htdemucs").weights_sha256
    folder = tmp_path / "models"
    monkeypatch.setenv("UNMIX_BACKEND", "torch")  # which needs no conversion
    assert unmix("fetch", "htdemucs", "--model-dir", folder) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "htdemucs: ready"
    empty_caches(tmp_path, monkeypatch)
    assert load_model("htdemucs", model_dir=folder).weights_sha256 == published
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o044 == 0o044, "a container's user reads it"


@pytest.mark.slow
def test_a_fetched_model_is_converted(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(host, tmp_path / "published", "htdemucs", [htdemucs(7)])
    monkeypatch.setenv("UNMIX_CACHE_DIR", str(tmp_path / "converted"))
    assert unmix("fetch", "htdemucs", "--model-dir", tmp_path / "models") == 0
    assert len(list((tmp_path / "converted").rglob("network.xml"))) == 1


def test_a_model_that_does_not_run_with_these_settings_is_not_called_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNMIX_DEVICE", "abacus")
    assert unmix("fetch", "demo", "--model-dir", tmp_path) == 1
    output = capsys.readouterr()
    assert "ready" not in output.out
    assert "the device 'abacus' is not available: there is none of this name" in output.err


def test_a_fetched_bag_keeps_its_weights_and_its_segment(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(host, tmp_path / "published", "mdx", [hdemucs(seed) for seed in range(4)])
    published = load_model("mdx")
    fetch_model("mdx", tmp_path / "models")
    empty_caches(tmp_path, monkeypatch)
    fetched = load_model("mdx", model_dir=tmp_path / "models")
    assert (fetched.weights_sha256, fetched.segment_samples) == (published.weights_sha256, 44 * 44100)


def test_published_weights_are_never_said_to_be_free_for_every_use_also_where_a_copy_of_them_is_kept(
    host: Host, tmp_path: Path
) -> None:
    publish(host, tmp_path / "published", "htdemucs", [htdemucs(7)])
    folder = tmp_path / "models"
    models = [load_model("htdemucs"), fetch_model("htdemucs", folder), load_model("htdemucs", model_dir=folder)]
    for model in models:
        assert model.weights_source == "demucs, htdemucs"
        for part in ("unclear", "scientific purposes", "327", "508", "MIT"):
            assert part in model.weights_licence
        assert (
            f"htdemucs: weights from demucs, htdemucs; their licence: {model.weights_licence}" == model.weights_notice
        )


def test_a_bag_published_with_another_definition_is_not_fetched(host: Host, tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    save_bag(tmp_path / "published", "htdemucs_ft", {f"f{seed}": htdemucs(seed) for seed in range(4)})
    host.serve_folder(tmp_path / "published")
    for _ in range(2):  # nothing is left of it that would be taken the next time
        with pytest.raises(ModelUnavailableError, match="another definition"):
            fetch_model("htdemucs_ft", tmp_path / "models")


def test_models_are_fetched_into_a_folder_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert unmix("fetch", "demo") == 1
    assert "--model-dir or UNMIX_MODEL_DIR" in capsys.readouterr().err


def test_weights_cached_by_torch_hub_are_used(tmp_path: Path) -> None:
    checkpoints = tmp_path / "torch" / "checkpoints"
    checkpoints.mkdir(parents=True)
    model = htdemucs(7)
    args, kwargs = model._init_args_kwargs
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": model.state_dict()}
    torch.save(package, checkpoints / "955717e8-8726e21a.th")
    assert available_offline("htdemucs")
    assert len(load_model("htdemucs").module.models) == 1


def test_a_download_with_a_wrong_checksum_is_refused(host: Host) -> None:
    host.files["955717e8-8726e21a.th"] = b"not what demucs published"
    with pytest.raises(ModelUnavailableError, match="invalid hash value"):
        load_model("htdemucs")


def test_the_operators_folder_comes_before_what_is_published(host: Host, tmp_path: Path) -> None:
    host.serve_folder(publish_htdemucs(tmp_path / "published"))
    (tmp_path / "mine").mkdir()
    save_bag(tmp_path / "mine", "htdemucs", {"955717e8": htdemucs(8)})
    own, published = load_model("htdemucs", model_dir=tmp_path / "mine"), load_model("htdemucs")
    assert own.weights_sha256 != published.weights_sha256


def test_a_quantised_model_without_diffq_is_an_error_and_the_process_lives_on(tmp_path: Path) -> None:
    checkpoints = tmp_path / "torch" / "checkpoints"
    checkpoints.mkdir(parents=True)
    model = htdemucs()
    args, kwargs = model._init_args_kwargs
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": {"__quantized": True}}
    for filename in ("6b9c2ca1-3fd82607", "b72baf4e-8778635e", "42e558d4-196e0e1b", "305bc58f-18378783"):
        torch.save(package, checkpoints / f"{filename}.th")
    with pytest.raises(ModelUnavailableError, match="diffq"):
        load_model("mdx_q")
