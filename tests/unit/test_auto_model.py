"""What `--model auto` means, on machines with and without htdemucs."""

from pathlib import Path

import pytest

from unmix.local.auto_model import resolve_model


@pytest.fixture
def offline(tmp_path: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no weights and cannot fetch any."""
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("UNMIX_MODEL_DIR", raising=False)


@pytest.mark.usefixtures("offline")
def test_auto_means_the_demo_model_where_htdemucs_cannot_be_had_and_says_so() -> None:
    model, note = resolve_model("auto")
    assert model == "demo"
    assert note is not None
    assert "htdemucs is neither cached nor reachable" in note
    assert "demo model" in note


@pytest.mark.usefixtures("offline")
def test_auto_means_htdemucs_where_the_operator_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "htdemucs.safetensors").write_bytes(b"found, not read")
    monkeypatch.setenv("UNMIX_MODEL_DIR", str(tmp_path))
    assert resolve_model("auto") == ("htdemucs", None)


def test_a_named_model_is_never_replaced() -> None:
    assert resolve_model("mdx_q") == ("mdx_q", None)


def test_the_demo_model_is_labelled_when_it_is_named_too() -> None:
    model, note = resolve_model("demo")
    assert model == "demo"
    assert note is not None
    assert note.startswith("demo model: ")
