"""Long songs in parts, through the whole service: shared by workers, continued after a death, and the same bytes."""

import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from audio_files import decoded
from stack import Stack
from support import make_song
from unmix import names
from unmix.audio.peaks import Peaks
from unmix.engine.models import DEMO, load_model
from unmix.engine.separator import Separator

MakeStack = Callable[..., Stack]
PARTS = {"UNMIX_PARTS_LEAST_SECONDS": "5"}
STEMS = ("vocals", "drums", "bass", "other")


def titled(wav: bytes) -> bytes:
    """Return a wav with a title."""
    chunk = struct.pack("<4sI4s4sI10s", b"LIST", 22, b"INFO", b"INAM", 10, b"The title\0")
    return wav[:4] + struct.pack("<I", len(wav) + len(chunk) - 8) + wav[8:12] + chunk + wav[12:]


SONG = titled(make_song(28, seed=7))


@pytest.fixture(scope="module")
def whole(cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The stems as they are if nobody helps and nothing happens."""
    song = tmp_path_factory.mktemp("whole") / "song"
    song.write_bytes(SONG)
    separator = Separator(load_model(DEMO), threads=1, cache_dir=cache_dir)
    separation = separator.separate_file(song, song.with_name("stems"), format="flac")
    return {stem: path.read_bytes() for stem, path in separation.stems.items()}


def parts_told(stack: Stack, job_id: str) -> Any:
    return requests.get(f"{stack.url}/apiv1/jobs/{job_id}/parts", timeout=30).json()["parts"]


def stems_of(stack: Stack, job_id: str) -> dict[str, bytes]:
    return {stem: stack.stem(job_id, stem) for stem in STEMS}


def parts_of(stack: Stack, job_id: str) -> list[str]:
    """The keys of the documents of the parts that are kept."""
    listed = stack.objects.list(names.OUTPUT_BUCKET, names.parts_prefix(job_id))
    return [info.name.key for info in listed if info.name.key.endswith(".json")]


def test_two_workers_make_one_song_which_is_heard_and_drawn_early_and_its_stems_are_as_of_one(
    make_stack: MakeStack, whole: dict[str, bytes], tmp_path: Path
) -> None:
    stack = make_stack(**PARTS).start(workers=2)
    job_id = stack.post(SONG, format="flac")
    stack.wait_for(lambda: parts_told(stack, job_id), "the first part is there")
    assert stack.job(job_id)["status"] == "running"
    first = parts_told(stack, job_id)[0]
    for stem in STEMS:
        data = requests.get(stack.url + first["stems"][stem]["url"], timeout=30).content
        samples = decoded(data)
        assert samples.shape[1] == first["samples"]
        assert np.array_equal(samples, decoded(whole[stem])[:, : first["samples"]])

    assert stack.wait_until_over(job_id)["status"] == "done"
    assert stems_of(stack, job_id) == whole
    assert all(f"The title ({stem})".encode() in whole[stem] for stem in STEMS)
    made = stack.job(job_id)["ran"]["parts"]["made"]
    assert len(made) == 2
    assert sum(made.values()) == len(parts_of(stack, job_id))
    peaks = requests.get(stack.url + stack.job(job_id)["peaks"], timeout=30).json()
    music = stack.job(job_id)["music"]
    assert (music["tempo_bpm"] is None) == (not peaks["beats"])
    for stem in STEMS:
        drawn = Peaks()
        drawn.add(decoded(whole[stem]))
        assert peaks["stems"][stem] == drawn.values
        pairs = len(first["stems"][stem]["peaks"])
        # The last pair of a part is of what lies in the part.
        assert first["stems"][stem]["peaks"][:-2] == drawn.values[: pairs - 2]


def test_a_song_whose_worker_died_goes_on_with_the_parts_that_are_there(
    make_stack: MakeStack, whole: dict[str, bytes]
) -> None:
    stack = make_stack(**PARTS).start(workers=0)
    worker, _, job_id = stack.half_way(SONG)
    stack.wait_for(lambda: len(parts_of(stack, job_id)) >= 2, "two parts are kept")
    worker.kill()
    worker.wait()
    kept = parts_of(stack, job_id)
    stack.start_worker()
    assert stack.wait_until_over(job_id)["status"] == "done"
    assert stems_of(stack, job_id) == whole
    assert set(kept) <= set(parts_of(stack, job_id))
    assert "parts found" in stack.logs()


@pytest.mark.slow
def test_the_death_of_a_helper_costs_the_song_nothing(make_stack: MakeStack, whole: dict[str, bytes]) -> None:
    stack = make_stack(**PARTS).start(workers=2)
    job_id = stack.post(SONG, format="flac")
    stack.wait_for(stack.helping_workers, "one of them helps")
    (helper,) = stack.helping_workers()
    os.kill(helper.pid, signal.SIGKILL)
    assert stack.wait_until_over(job_id)["status"] == "done"
    assert stack.outcome(job_id)["attempt"] == 1
    assert stems_of(stack, job_id) == whole


@pytest.mark.slow  # test_songs.py has it for the worker, unit/test_worker_abandon.py for the helper
def test_a_song_that_is_cancelled_costs_neither_its_worker_nor_its_helper_the_model(make_stack: MakeStack) -> None:
    stack = make_stack(**PARTS).start(workers=1)
    worker, child, job_id = stack.half_way(make_song(90, seed=8))
    helper = stack.start_worker()
    stack.wait_for(stack.helping_workers, "the second worker helps")
    helping = stack.child_of(helper)
    assert requests.post(f"{stack.url}/apiv1/jobs/{job_id}/cancel", timeout=30).status_code == 200
    later = [stack.post(make_song(3, seed=seed)) for seed in range(4)]
    assert {stack.wait_until_over(job_id)["status"] for job_id in later} == {"done"}
    assert (stack.child_of(worker), stack.child_of(helper)) == (child, helping)


@pytest.mark.slow
def test_parts_go_with_their_job(make_stack: MakeStack) -> None:
    stack = make_stack(**PARTS, UNMIX_RECONCILE_SECONDS="1").start()
    job_id = stack.post(SONG)
    assert stack.wait_until_over(job_id)["status"] == "done"
    assert parts_of(stack, job_id)
    stack.remove(job_id)
    stack.wait_for(lambda: not list(stack.objects.list(names.OUTPUT_BUCKET, job_id)), "nothing is left")


@pytest.mark.slow
@pytest.mark.parametrize("off", [{"UNMIX_PARTS": "false"}, {"UNMIX_PARTS_LEAST_SECONDS": "600"}], ids=str)
def test_without_parts_nothing_is_kept_of_a_song_but_its_stems(
    off: dict[str, str], make_stack: MakeStack, whole: dict[str, bytes]
) -> None:
    stack = make_stack(**PARTS | off).start()
    job_id = stack.post(SONG, format="flac")
    assert stack.wait_until_over(job_id)["status"] == "done"
    assert stems_of(stack, job_id) == whole
    assert parts_of(stack, job_id) == []
