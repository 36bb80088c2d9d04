"""Models are found by name, described by what they are, and refused with a reason."""

import hashlib
import json
from importlib import resources
from pathlib import Path

import pytest
import torch

from demucs_models import FOUR, SIX, demucs, hdemucs, htdemucs, save_bag, save_ft, save_mdx, save_pickle
from demucs_models import save_safetensors as save
from unmix.engine import pretrained
from unmix.engine.models import DEMO, LoadedModel, available_offline, is_model_name, load_model
from unmix.errors import ModelUnavailableError


def refusal(name: str, model_dir: Path | None = None, trusted: frozenset[str] = frozenset()) -> str:
    with pytest.raises(ModelUnavailableError) as caught:
        load_model(name, model_dir=model_dir, trusted_weights=trusted)
    assert caught.value.code == "model_unavailable"
    return caught.value.message


def test_the_demo_model_is_in_the_package_small_and_readable_by_all() -> None:
    model = load_model(DEMO)
    assert model.sources == ("drums", "bass", "other", "vocals")
    assert (model.sample_rate, model.channels) == (44_100, 2)
    assert (model.weights_source, model.weights_licence) == ("Track-Unmix", "MIT")
    with resources.as_file(resources.files("unmix.engine") / "weights" / "demo.safetensors") as path:
        assert path.stat().st_size <= 4_000_000
        assert path.stat().st_mode & 0o444 == 0o444


def test_an_own_model_is_loaded_from_its_safetensors_file(tmp_path: Path) -> None:
    model = htdemucs()
    save(model, tmp_path / "mine.safetensors")
    loaded = load_model("mine", model_dir=tmp_path)
    assert loaded.sources == tuple(FOUR)
    assert loaded.segment_samples == 11_025
    state = loaded.module.models[0].state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_of_an_operators_own_weights_no_licence_is_claimed_even_under_the_name_of_a_published_model(
    tmp_path: Path,
) -> None:
    save(htdemucs(), tmp_path / "htdemucs.safetensors")
    save_bag(tmp_path, "htdemucs_6s", {"mine": htdemucs(sources=SIX)})
    for name in ("htdemucs", "htdemucs_6s"):
        model = load_model(name, model_dir=tmp_path)
        assert (model.weights_source, model.weights_licence) == ("the operator's model folder", "unknown")


def test_a_bag_of_four_with_one_hot_weights_is_loaded(tmp_path: Path) -> None:
    save_ft(tmp_path)
    loaded = load_model("htdemucs_ft", model_dir=tmp_path)
    assert len(loaded.module.models) == 4
    assert loaded.module.weights[2] == [0, 0, 1, 0]


def test_a_bag_of_two_classes_is_loaded(tmp_path: Path) -> None:
    save_mdx(tmp_path)
    loaded = load_model("mdx", model_dir=tmp_path)
    assert {type(model).__name__ for model in loaded.module.models} == {"Demucs", "HDemucs"}
    assert loaded.segment_samples == 44_100


def test_the_stems_are_the_sources_of_the_model(tmp_path: Path) -> None:
    save_bag(tmp_path, "htdemucs_6s", {"5c90dfd2": htdemucs(sources=SIX)})
    assert load_model("htdemucs_6s", model_dir=tmp_path).sources == tuple(SIX)


def test_a_pickle_is_loaded_if_its_operator_vouches_for_it(tmp_path: Path) -> None:
    model = hdemucs()
    trusted = frozenset({save_pickle(model, tmp_path, "abcdef12")})
    (tmp_path / "hdemucs_mmi.yaml").write_text("models: ['abcdef12']\nsegment: 1\n")
    for name in ("hdemucs_mmi", "abcdef12"):
        assert load_model(name, model_dir=tmp_path, trusted_weights=trusted).sources == tuple(FOUR)


def test_a_pickle_nobody_vouches_for_is_not_opened(tmp_path: Path) -> None:
    opened = tmp_path / "opened"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(opened),)

    path = tmp_path / "evil.th"
    torch.save({"klass": Bomb()}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert sha256 in refusal("evil", tmp_path)
    assert sha256 in refusal("evil", tmp_path, frozenset({sha256[:8], "0" * 64}))
    assert not opened.exists()


def test_a_pickle_that_changed_after_it_was_trusted_is_not_opened(tmp_path: Path) -> None:
    trusted = frozenset({save_pickle(demucs(), tmp_path, "mine")})
    (path,) = tmp_path.glob("*.th")
    path.write_bytes(path.read_bytes() + b"x")
    assert "not trusted" in refusal("mine", tmp_path, trusted)


def test_metadata_may_name_no_class_but_demucs_own(tmp_path: Path) -> None:
    save(htdemucs(), tmp_path / "evil.safetensors", klass="subprocess.Popen")
    assert "subprocess.Popen" in refusal("evil", tmp_path)


def test_the_state_in_metadata_may_name_no_class_either(tmp_path: Path) -> None:
    structure = {"_dict": [["quantized", {"_list": [{"_class": "antigravity.fly"}]}]]}
    save(htdemucs(), tmp_path / "evil.safetensors", structure=json.dumps(structure))
    assert "antigravity.fly" in refusal("evil", tmp_path)


def test_quantised_weights_without_diffq_are_refused_and_the_process_lives_on(tmp_path: Path) -> None:
    structure = {"_dict": [["__quantized", True]]}
    save(demucs(), tmp_path / "mdx_q.safetensors", structure=json.dumps(structure))
    assert "diffq" in refusal("mdx_q", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_broken_file_is_refused_and_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(content)
    assert "mine.safetensors" in refusal("mine", tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    other = htdemucs(sources=SIX)
    args, _ = other._init_args_kwargs
    save(htdemucs(), tmp_path / "mine.safetensors", args=json.dumps(args))
    assert "mine.safetensors: not usable" in refusal("mine", tmp_path)


def test_a_broken_file_is_not_replaced_by_the_published_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "load_pretrained", lambda name: pytest.fail("another model stood in"))
    (tmp_path / "htdemucs.safetensors").write_bytes(b"broken")
    assert "htdemucs.safetensors" in refusal("htdemucs", tmp_path)


@pytest.mark.parametrize(
    "definition",
    [
        "models: ['../outside']",
        "models: ['missing']",
        "models: 3",
        "segment: 4",
        "[",
        "models: ['a']\nweights: [[1.0]]",
    ],
)
def test_a_broken_definition_of_a_bag_is_refused(definition: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    save(htdemucs(), tmp_path / "outside.safetensors")
    save(htdemucs(), tmp_path / "models" / "a.safetensors")
    (tmp_path / "models" / "bag.yaml").write_text(definition)
    assert "'bag'" in refusal("bag", tmp_path / "models")


def test_a_bag_that_leaves_a_source_without_weight_is_refused(tmp_path: Path) -> None:
    save_bag(tmp_path, "bag", {"a": htdemucs()}, weights=[[1.0, 1.0, 1.0, 0.0]])
    assert "weight" in refusal("bag", tmp_path)


@pytest.mark.parametrize("source", ["../vocals", "Vocals ", "", "a" * 40])
def test_a_model_whose_sources_could_not_name_files_is_refused(source: str, tmp_path: Path) -> None:
    save(htdemucs(sources=["drums", source]), tmp_path / "mine.safetensors")
    assert "sources" in refusal("mine", tmp_path)


def test_a_mono_model_is_refused(tmp_path: Path) -> None:
    save(htdemucs(audio_channels=1), tmp_path / "mine.safetensors")
    assert "1 channels" in refusal("mine", tmp_path)


@pytest.mark.parametrize(
    "name", ["../mine", "/etc/passwd", "hf://someone/model", "mine.th", "", ".", "a b", "-x", "x" * 65, "demucs\n"]
)
def test_a_path_or_an_address_is_no_name_of_a_model(name: str, tmp_path: Path) -> None:
    save(htdemucs(), tmp_path / "mine.safetensors")
    (tmp_path / "folder").mkdir()
    assert not is_model_name(name)
    refusal(name, tmp_path / "folder")


def test_an_unknown_model_is_an_error_that_tells_where_it_was_looked_for_and_what_helps(tmp_path: Path) -> None:
    message = refusal("nosuchmodel", tmp_path)
    for part in ("'nosuchmodel'", str(tmp_path), "nosuchmodel.safetensors", "htdemucs_ft", "UNMIX_MODEL_DIR"):
        assert part in message
    assert "UNMIX_MODEL_DIR is not set" in refusal("nosuchmodel")


def test_a_model_is_available_offline_if_its_file_is_there(tmp_path: Path) -> None:
    assert available_offline(DEMO)
    assert not available_offline("mine", model_dir=tmp_path)
    save(htdemucs(), tmp_path / "mine.safetensors")
    assert available_offline("mine", model_dir=tmp_path)


def fingerprint(model: LoadedModel) -> str:
    assert len(model.weights_sha256) == 64
    return model.weights_sha256


def test_the_digest_is_that_of_the_weights_wherever_they_came_from(tmp_path: Path) -> None:
    save(htdemucs(5), tmp_path / "one.safetensors")
    trusted = frozenset({save_pickle(htdemucs(5), tmp_path, "two")})
    one, two = (load_model(name, model_dir=tmp_path, trusted_weights=trusted) for name in ("one", "two"))
    assert fingerprint(one) == fingerprint(two)


def test_the_digest_changes_with_one_weight_one_argument_or_the_weights_of_a_bag(tmp_path: Path) -> None:
    changed = htdemucs()
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-6
    save(htdemucs(), tmp_path / "base.safetensors")
    save(changed, tmp_path / "weight.safetensors")
    save(htdemucs(norm_starts=3), tmp_path / "argument.safetensors")
    for index, weights in enumerate(([[1.0] * 4] * 2, [[1.0] * 4, [2.0] * 4])):
        save_bag(tmp_path, f"bag{index}", {"base": htdemucs(), "weight": changed}, weights=weights)
    save_bag(tmp_path, "segment", {"base": htdemucs()}, segment=0.2)
    names = ("base", "weight", "argument", "bag0", "bag1", "segment")
    assert len({fingerprint(load_model(name, model_dir=tmp_path)) for name in names}) == len(names)
