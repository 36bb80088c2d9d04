"""What a worker and its separating child say to each other, and what of the environment the child is told.

`test_worker_versions` has what they do when they do not understand each other.
"""

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from unmix.job import SeparationOptions, SongLevel
from unmix.outcome import Music, Ran
from unmix.queue.records import ModelCard
from unmix_worker.environment import SETTINGS, child_environment
from unmix_worker.messages import (
    KNOWN,
    Done,
    Event,
    Failed,
    Loaded,
    MakeRun,
    NoMoreRuns,
    Order,
    PartMade,
    PartsBegun,
    PartsJoined,
    PartsTask,
    Progress,
    Ready,
    RunWanted,
    SeparationTask,
    UsePart,
    decode_event,
    decode_order,
    encode,
)

ROOT = Path(__file__).parents[2]

TASK = SeparationTask(
    *("/song", "/out", "demo", None, ("vocals",), "flac", 256),
    mixture_consistency=True,
    bits=24,
    start=1.5,
    end=2.0,
    precision="exact",
    overlap=0.5,
    shifts=2,
    song_rate=True,
)
LEVEL = SongLevel(44_100, -0.1, 0.3, "cd", 48_000, 48_000)
RAN = Ran("demo", "ab" * 32, "cpu", 44_100, 1.0, 0.5, "torch", "exact", "a host", "a licence")
EVENTS: list[Event] = [
    Ready(ModelCard("demo", "ab" * 32, ("drums", "vocals"), 44_100), "torch 2", "exact", knows=KNOWN),
    Loaded(),
    Progress(1, 3),
    Done({"vocals": "/out/vocals.flac"}, RAN, ("cut",), ("resampled",)),
    Done({}, RAN, (), music=Music("A minor", 0.8, None, 0.0)),
    Failed("undecodable", "two\nlines", retryable=False),
    PartsBegun(9, "exact-1", LEVEL, 100, ("vocals", "drums")),
    PartsJoined(3),
    RunWanted(4),
    PartMade(4, 1000, 500, {"vocals": "/out/parts/4.vocals.flac"}, {"vocals": 3}, {"vocals": [-4, 7]}),
]
ORDERS: list[Order] = [
    PartsTask(replace(TASK, level=LEVEL), join=True, least_seconds=30.0),
    MakeRun(4, 8),
    UsePart(2, {"vocals": "/found/2.vocals.flac"}, {"vocals": 0}),
    NoMoreRuns(),
]


def with_a_new_field(line: str) -> str:
    """What the next version may say."""
    values = json.loads(line)
    for part in (values, values.get("card"), values.get("ran"), values.get("level"), values.get("music")):
        if part is not None:
            part["mood"] = "good"
    return json.dumps(values)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_that_says_all_of_it(event: Event) -> None:
    line = encode(event)
    assert line.index("\n") == len(line) - 1
    assert decode_event(line) == event
    assert decode_event(with_a_new_field(line)) == event


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: type(order).__name__)
def test_an_order_is_one_line_that_says_all_of_it(order: Order) -> None:
    assert decode_order(encode(order)) == order
    assert decode_order(with_a_new_field(encode(order))) == order


@pytest.mark.parametrize("level", [None, LEVEL])
def test_a_task_is_one_line_that_says_all_of_it(level: SongLevel | None) -> None:
    task = replace(TASK, level=level)
    assert decode_order(encode(task)) == task
    assert decode_order(with_a_new_field(encode(task))) == task


def test_a_task_of_a_worker_that_knows_no_levels_has_none() -> None:
    values = json.loads(encode(replace(TASK, level=LEVEL)))
    del values["level"]
    order = decode_order(json.dumps(values))
    assert isinstance(order, SeparationTask)
    assert order.level is None


def test_the_task_of_a_job_asks_for_what_its_options_say() -> None:
    options = SeparationOptions("demo", ("vocals",), "flac", None, True, bits=24, start=1.5, end=2.0)
    options = replace(options, precision="exact", overlap=0.5, shifts=2, song_rate=True)
    assert SeparationTask.of(options, Path("/song"), Path("/out"), 256) == TASK
    chosen = replace(options, format="mp3", bitrate_kbps=128)
    assert SeparationTask.of(chosen, Path("/song"), Path("/out"), 256).bitrate_kbps == 128


@pytest.mark.parametrize("line", ["", "{", "[]", "7", "{}", '{"kind": []}', '{"kind": "Progress"}'])
def test_what_is_no_message_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError, match="no message"):
        decode_event(line)


def test_a_task_is_no_event_and_an_event_is_no_task() -> None:
    with pytest.raises(ValueError, match="no event"):
        decode_event(encode(TASK))
    with pytest.raises(ValueError, match="no order"):
        decode_order(encode(Loaded()))


def test_an_event_that_only_another_version_knows_is_nothing() -> None:
    assert decode_event('{"kind": "Mood", "mood": "good"}') is None


@pytest.mark.parametrize(
    "name",
    [
        *("UNMIX_STORE_SECRET_KEY", "UNMIX_REDIS_URL", "unmix_redis_password", "MINIO_SECRET_KEY", "REDIS_PASSWORD"),
        *("HF_TOKEN", "HF_TOKEN_PATH", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DATABASE_URL"),
    ],
)
def test_the_child_is_told_no_secret(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "secret")
    assert "secret" not in child_environment().values()


@pytest.mark.parametrize(
    "name",
    [
        *("UNMIX_MODEL_DIR", "unmix_device", "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "https_proxy"),
        *(
            "NO_PROXY",
            "SSL_CERT_FILE",
            "OPENSSL_CONF",
            "OPENSSL_MODULES",
            "HF_HOME",
            "HF_HUB_OFFLINE",
            "XDG_CACHE_HOME",
            "TORCH_HOME",
        ),
        *("ROCM_PATH", "HIP_VISIBLE_DEVICES", "METAL_DEVICE_WRAPPER_TYPE", "TRITON_CACHE_DIR"),
        *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MALLOC_TOP_PAD_"),
    ],
)
def test_the_child_is_told_what_it_computes_with_and_how_it_gets_weights(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "as the operator says")
    assert child_environment()[name] == "as the operator says"


def test_the_child_is_told_every_setting_that_it_reads() -> None:
    read = set()
    for path in (ROOT / "worker" / "unmix_worker" / "child.py", ROOT / "src" / "unmix" / "separating.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "settings":
                read.add({"trusted_sums": "trusted_weights", "allows_weights": "weights"}.get(node.attr, node.attr))
    assert read - {"model_copy"} == set(SETTINGS)
