"""How long until a job is over: what is expected of songs that run and wait."""

import pytest

from unmix.queue.job_queue import JobQueue
from unmix.queue.pulses import Work
from unmix.queue.speeds import Speed
from unmix_rest.eta import expected_seconds

SPEEDS: dict[str, Speed | None] = {"demo": Speed(per_song=2, per_second=0.5), "new": None}


def song(seconds: float, progress: float = 0.0, model: str = "demo") -> Work:
    return Work(model, seconds, progress)


def test_what_runs_is_over_when_its_rest_is_done() -> None:
    assert expected_seconds({"a": song(100, 0.75)}, {}, SPEEDS) == {"a": 13}


def test_what_waits_is_begun_by_the_first_worker_that_is_free() -> None:
    running = {"a": song(96), "b": song(16)}  # 50 s, 10 s
    waiting = {"c": song(36), "d": song(56), "e": song(16)}  # 20 s, 30 s, 10 s
    assert expected_seconds(running, waiting, SPEEDS) == {"a": 50, "b": 10, "c": 30, "d": 60, "e": 60}


def test_what_waits_while_nothing_runs_is_begun_at_once() -> None:
    assert expected_seconds({}, {"a": song(16), "b": song(16)}, SPEEDS) == {"a": 10, "b": 20}


def test_nothing_is_said_of_what_waits_for_the_unknown() -> None:
    assert expected_seconds({}, {"a": song(16), "b": song(1, model="new"), "c": song(1)}, SPEEDS) == {"a": 10}
    assert expected_seconds({"a": song(16, model="new")}, {"b": song(1)}, SPEEDS) == {}


def test_a_speed_is_learnt_from_songs_of_different_lengths(queue: JobQueue) -> None:
    assert queue.speeds.get("demo") is None
    for seconds in (10, 100, 200, 60):
        queue.speeds.note("demo", song_seconds=seconds, work_seconds=3 + 0.25 * seconds)
    speed = queue.speeds.get("demo")
    assert speed
    assert (speed.per_song, speed.per_second) == pytest.approx((3, 0.25))


def test_songs_of_one_length_give_a_speed_too(queue: JobQueue) -> None:
    for work in (9, 11):
        queue.speeds.note("demo", song_seconds=100, work_seconds=work)
    speed = queue.speeds.get("demo")
    assert speed
    assert speed.seconds(100) == pytest.approx(10)


def test_a_long_song_is_never_expected_to_take_less_than_a_short_one(queue: JobQueue) -> None:
    queue.speeds.note("demo", song_seconds=10, work_seconds=50)
    queue.speeds.note("demo", song_seconds=100, work_seconds=5)
    speed = queue.speeds.get("demo")
    assert speed
    assert 0 <= speed.seconds(10) <= speed.seconds(100)


def test_a_machine_that_has_become_faster_is_believed_after_a_while(queue: JobQueue) -> None:
    for number in range(100):
        queue.speeds.note("demo", song_seconds=60 + number % 7, work_seconds=60)
    for number in range(300):
        queue.speeds.note("demo", song_seconds=60 + number % 7, work_seconds=6)
    speed = queue.speeds.get("demo")
    assert speed
    assert speed.seconds(63) < 12
