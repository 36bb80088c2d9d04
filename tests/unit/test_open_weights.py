"""`UNMIX_WEIGHTS=open`: only models are served, and run, whose weights anybody may use."""

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from rest_support import DEMO_CARD, SONG, Rest
from unmix.engine import provenance
from unmix.errors import ModelUnavailableError
from unmix.job import SeparationOptions
from unmix.names import hash_song
from unmix.queue.records import ModelCard
from unmix.separating import make_separator
from unmix.settings import Settings
from unmix_worker.environment import child_environment
from unmix_worker.messages import Failed, Loaded, SeparationTask, decode_event, encode

HTDEMUCS = replace(DEMO_CARD, name="htdemucs", weights_licence="unclear: for scientific purposes or MIT")


@pytest.fixture
def open_only(tmp_path: Path, redis_url: str) -> Rest:
    return Rest(tmp_path, redis_url, weights="open")


@pytest.fixture
def operators_folder(tmp_path: Path) -> Path:
    """A folder with a model of which nobody knows the licence."""
    folder = tmp_path / "models"
    folder.mkdir()
    weights = Path(provenance.__file__).parent / "weights" / "demo.safetensors"
    (folder / "ours.safetensors").write_bytes(weights.read_bytes())
    return folder


def offered(rest: Rest) -> dict[str, bool]:
    return {model["name"]: model["offered"] for model in rest.client.get("/apiv1/models").json["models"]}


@pytest.mark.parametrize("card", [None, HTDEMUCS, replace(HTDEMUCS, weights_licence=None)])
def test_a_model_whose_licence_is_not_known_to_be_open_is_refused(open_only: Rest, card: ModelCard | None) -> None:
    if card:
        open_only.queue.models.announce(card)
    for path, form in (("/apiv1/jobs", {"model": "htdemucs"}), ("/apiv1/separate", {"model": "htdemucs"})):
        answer = open_only.client.post(path, data={"file": (BytesIO(SONG), "song.mp3"), **form})
        assert (answer.status_code, answer.json["code"]) == (422, "weights_not_open")
        assert "anybody may use" in answer.json["detail"]
    assert open_only.stored() == []
    assert offered(open_only) == {"demo": True, "htdemucs": False}


def test_a_model_with_an_open_licence_is_served(open_only: Rest) -> None:
    open_only.queue.models.announce(replace(HTDEMUCS, weights_licence="CC-BY-4.0"))
    assert offered(open_only) == {"demo": True, "htdemucs": True}
    assert open_only.post_form(SONG, model="htdemucs").status_code == 200


def test_the_demo_model_is_served_before_any_worker_has_told_of_it(open_only: Rest) -> None:
    assert open_only.post_form(SONG).json["hash"] == hash_song(SONG)


def test_without_the_setting_all_are_served(rest: Rest) -> None:
    rest.queue.models.announce(HTDEMUCS)
    assert offered(rest) == {"demo": True, "htdemucs": True}
    assert rest.post_form(SONG, model="htdemucs").status_code == 200


def test_models_tell_how_fast_they_are_here(rest: Rest) -> None:
    for seconds in (60.0, 120.0):
        rest.queue.speeds.note("demo", song_seconds=seconds, work_seconds=3 + seconds / 10)
    models = {model["name"]: model["realtime_factor"] for model in rest.client.get("/apiv1/models").json["models"]}
    assert models == {"demo": 0.1, "htdemucs": None}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [(provenance.DEMO, True), (provenance.OPERATORS, False), (provenance.published("htdemucs"), False)],
)
def test_of_what_is_known_only_the_demo_model_is_open(origin: provenance.Provenance, allowed: bool) -> None:
    assert Settings(weights="open").allows_weights(origin.licence) is allowed
    assert Settings().allows_weights(origin.licence)


def test_nothing_is_separated_with_weights_that_are_not_open(operators_folder: Path) -> None:
    settings = Settings(model_dir=operators_folder, backend="torch")
    assert make_separator("ours", settings).model.name == "ours"
    with pytest.raises(ModelUnavailableError, match="unknown") as caught:
        make_separator("ours", settings.model_copy(update={"weights": "open"}))
    assert caught.value.code == "weights_not_open"


@pytest.mark.parametrize("default", ["ours", "demo"])
def test_a_worker_neither_begins_with_such_a_model_nor_runs_a_job_of_it(
    operators_folder: Path, monkeypatch: pytest.MonkeyPatch, default: str
) -> None:
    for name, value in {"MODEL": default, "MODEL_DIR": str(operators_folder), "WEIGHTS": "open"}.items():
        monkeypatch.setenv(f"UNMIX_{name}", value)
    monkeypatch.setenv("UNMIX_BACKEND", "torch")
    task = SeparationTask.of(SeparationOptions(model="ours"), operators_folder / "song", operators_folder, 192)
    command = [sys.executable, "-m", "unmix_worker.child"]
    with subprocess.Popen(
        command, env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(encode(task))
        child.stdin.flush()
        event = next(event for event in map(decode_event, child.stdout) if isinstance(event, Failed | Loaded))
        child.stdin.close()
    assert isinstance(event, Failed)
    assert (event.code, event.retryable) == ("weights_not_open", False)
