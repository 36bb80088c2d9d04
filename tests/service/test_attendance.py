"""Which workers are there, why the last one ended, and how REST tells of that."""

from contextlib import suppress
from pathlib import Path

import pytest

from rest_support import Rest
from support import eventually, song_hash_number
from unmix.errors import EngineError
from unmix.queue import attendance
from unmix.queue.job_queue import JobQueue
from unmix.queue.records import WorkerState
from unmix_worker.presence import Presence

TOO_SMALL = EngineError("demo needs 1131 MiB", code="memory_too_small")


@pytest.fixture
def rest(tmp_path: Path, redis_url: str) -> Rest:
    return Rest(tmp_path, redis_url)


@pytest.fixture
def nobody_counts_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "GONE_SECONDS", -1)


def presence(queue: JobQueue, name: str, state: WorkerState = WorkerState.READY) -> Presence:
    return Presence(queue.attendance, f"{name}-7-ab", name, lambda: state)


def told(rest: Rest) -> dict[str, object]:
    """Return what who runs the service is told; it is ready for uploads in any case."""
    answer = rest.client.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "ok")
    return dict(answer.json["workers"])


def test_those_who_are_there_are_counted_by_what_they_do(queue: JobQueue, rest: Rest) -> None:
    with (
        presence(queue, "a"),
        presence(queue, "b", WorkerState.HELPING),
        presence(queue, "c", WorkerState.LOADING),
    ):
        eventually(lambda: told(rest)["ready"] == 2, "both have said that they are ready")
        assert told(rest) == {"ready": 2, "loading": 1, "message": None}
        assert rest.client.get("/apiv1/queue").json["workers"] == told(rest)
        assert {each.host for each in queue.attendance.present()} == {"a", "b", "c"}
    assert told(rest)["ready"] == 0


def test_a_worker_that_has_loaded_its_model_is_ready_at_once(
    queue: JobQueue, rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmix_worker.presence.NOTE_SECONDS", 3600)
    states = [WorkerState.LOADING]
    with Presence(queue.attendance, "a-7-ab", "a", lambda: states[-1]):
        eventually(lambda: told(rest)["loading"] == 1, "it has come")
        states.append(WorkerState.READY)
        eventually(lambda: told(rest) == {"ready": 1, "loading": 0, "message": None}, "it has said that it is ready")


def test_the_last_worker_s_own_words_say_why_nobody_is_ready(queue: JobQueue, rest: Rest) -> None:
    with presence(queue, "before"):
        pass
    with suppress(EngineError), presence(queue, "small", WorkerState.LOADING):
        raise TOO_SMALL
    said = str(told(rest)["message"])
    assert said.startswith("no worker is ready, songs wait until one is: the last one small-7-ab ended at ")
    assert said.endswith(", as demo needs 1131 MiB (memory_too_small)")
    shown = rest.client.get("/apiv1/queue").json["workers"]["message"]
    assert shown.endswith(" with memory_too_small")
    assert "small-7-ab" not in shown


def test_a_worker_that_was_asked_to_end_and_one_that_loads_are_told_too(queue: JobQueue, rest: Rest) -> None:
    with presence(queue, "a"):
        pass
    assert " the last one a-7-ab was asked to end at " in str(told(rest)["message"])
    with presence(queue, "b", WorkerState.LOADING):
        assert ": one is loading its model; the last one a-7-ab " in str(told(rest)["message"])


@pytest.mark.usefixtures("nobody_counts_for_long")
def test_a_worker_that_died_without_a_word_is_missed(queue: JobQueue, rest: Rest) -> None:
    queue.attendance.note("killed-7-ab", "killed", WorkerState.READY)
    assert " the last one killed-7-ab has not been heard of since " in str(told(rest)["message"])


def test_who_died_long_ago_is_forgotten_when_the_next_one_comes(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.attendance.note("killed-7-ab", "killed", WorkerState.READY)
    monkeypatch.setattr(attendance, "_FORGOTTEN_SECONDS", -1)
    queue.attendance.arrive("next-7-ab", "next")
    assert [each.host for each in queue.attendance.present()] == ["next"]


def test_who_has_claimed_a_song_is_busy(queue: JobQueue) -> None:
    assert queue.attendance.busy() == set()
    for number in (1, 2):
        job_id = song_hash_number(number)
        queue.submit(job_id, "g")
        assert queue.claim(str(queue.take(block_seconds=1)), job_id, f"worker-{number}")
    assert queue.attendance.busy() == {"worker-1", "worker-2"}
