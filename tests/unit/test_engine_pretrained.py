"""Published models come from a cache or over the network; where neither has them, the error says so, and soon."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import demucs.pretrained
import huggingface_hub.constants
import pytest
import torch

from demucs_models import htdemucs, save_bag, save_ft
from support import free_port
from unmix.engine import pretrained
from unmix.engine.models import available_offline, load_model
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
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

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
    with pytest.raises(ModelUnavailableError, match=r"no answer within 0\.2 s"):
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
