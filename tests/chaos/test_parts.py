"""What becomes of a song in parts when who leads or helps dies, freezes or sleeps over it, and parts are damaged."""

import json
import signal
from collections import Counter
from random import Random

import pytest

from chaos.clients import Order, SongMaker
from chaos.points import PART_POINTS, Plan
from chaos.scenarios.parts import damage_a_part
from chaos.service import Service
from unmix.queue.runs import RUN_PARTS

COUNT = 14
SONG = SongMaker("parts", {"parts": COUNT, "segment_seconds": 0.03})(1)
#: Who starts when it is begun finds it under way.
LONG_COUNT = 100
LONG_SONG = SongMaker("parts", {"parts": LONG_COUNT, "segment_seconds": 0.03})(2)


def made(service: Service) -> Counter[int]:
    """How often each part was made."""
    return Counter(event["part"] for event in service.history.events() if event["event"] == "part made")


def is_outcome(key: str) -> bool:
    return key.startswith("output/") and key.endswith(".json") and key.count("/") == 1


def assert_all_is_well(service: Service) -> None:
    verdict = service.verdict()
    assert not verdict.wrong
    assert verdict.accepted == 1


@pytest.mark.parametrize("point", PART_POINTS)
def test_the_next_attempt_goes_on_where_a_dead_worker_was(service: Service, point: str) -> None:
    worker = service.start_worker(Plan(point, "kill", 9))
    service.carry_out(Order("post", SONG))
    assert worker.wait(30) == -signal.SIGKILL
    service.start_worker()
    assert_all_is_well(service)
    assert set(made(service)) == set(range(COUNT))
    assert made(service).total() - COUNT <= RUN_PARTS + 1


@pytest.mark.parametrize("point", PART_POINTS)
def test_the_death_of_a_helper_costs_no_attempt(service: Service, point: str) -> None:
    service.start_worker()
    service.carry_out(Order("post", LONG_SONG))
    service.wait_for_event("separating")
    helper = service.start_worker(Plan(point, "kill", 2))
    assert helper.wait(30) == -signal.SIGKILL
    assert_all_is_well(service)
    assert service.verdict().runs == 1


@pytest.mark.parametrize("point", PART_POINTS)
def test_who_sleeps_over_a_part_and_wakes_when_the_song_is_over_changes_nothing(service: Service, point: str) -> None:
    frozen = service.start_worker(Plan(point, "freeze", 2))
    service.carry_out(Order("post", SONG))
    service.wait_for(lambda: frozen.stopped, "it is frozen")
    service.start_worker()
    assert_all_is_well(service)
    delivered = {key: data for key, data in service.read_objects().items() if "/parts." not in key}
    frozen.signal(signal.SIGCONT)
    service.wait_for_event("woke")
    assert_all_is_well(service)
    assert delivered.items() <= service.read_objects().items()


def test_parts_of_a_removed_submission_are_not_joined_with_those_of_the_next(service: Service) -> None:
    frozen = service.start_worker(Plan("before_part_document", "freeze", 6))
    service.carry_out(Order("post", SONG))
    service.wait_for(lambda: frozen.stopped, "it is frozen")
    service.carry_out(Order("remove", SONG), Order("post", SONG))
    other = service.start_worker()
    service.wait_for(lambda: len(made(service)) > 8, "the other one makes parts")
    frozen.signal(signal.SIGCONT)
    assert_all_is_well(service)
    assert other.alive
    assert max(made(service).values()) > 1


def test_a_part_of_a_removed_submission_that_is_stored_when_the_next_is_over_goes(service: Service) -> None:
    frozen = service.start_worker(Plan("before_part_document", "freeze", 2))
    service.carry_out(Order("post", SONG))
    service.wait_for(lambda: frozen.stopped, "it is frozen")
    service.carry_out(Order("remove", SONG), Order("post", SONG))
    service.start_worker()
    assert_all_is_well(service)
    frozen.signal(signal.SIGCONT)
    service.wait_for_event("woke")
    assert_all_is_well(service)


def test_damaged_parts_are_made_again(service: Service) -> None:
    worker = service.start_worker(Plan("after_part_document", "kill", 10))
    service.carry_out(Order("post", SONG))
    assert worker.wait(30) == -signal.SIGKILL
    for number in range(6):
        damage_a_part(service, Random(number))
    service.start_worker()
    assert_all_is_well(service)


def test_a_worker_that_has_to_stop_leaves_what_it_has_made_and_costs_no_attempt(service: Service) -> None:
    worker = service.start_worker(Plan("after_part_document", "stop", 6), UNMIX_SHUTDOWN_SECONDS="3")
    service.carry_out(Order("post", SONG))
    assert worker.wait(30) == 0
    service.start_worker()
    assert_all_is_well(service)
    assert made(service).total() - COUNT <= RUN_PARTS + 1
    (outcome,) = (json.loads(data) for key, data in service.read_objects().items() if is_outcome(key))
    assert outcome["attempt"] == 1
    assert outcome["ran"]["parts"]["found"] >= 6
    assert sum(outcome["ran"]["parts"]["made"].values()) == COUNT


def test_a_cancel_stops_those_who_help(service: Service) -> None:
    for _ in range(2):
        service.start_worker()
    service.carry_out(Order("post", LONG_SONG))
    service.wait_for(lambda: len(made(service)) > 8, "both make parts")
    service.carry_out(Order("cancel", LONG_SONG))
    assert_all_is_well(service)
    before = made(service).total()
    service.carry_out(Order("post", SONG))
    service.wait_for(lambda: made(service).total() > before, "they make parts of another song")
    assert not service.verdict().wrong
    assert made(service).total() - before - COUNT < 3 * RUN_PARTS


def test_two_workers_without_songs_help_a_third(service: Service) -> None:
    for _ in range(3):
        service.start_worker()
    service.carry_out(Order("post", LONG_SONG))
    assert_all_is_well(service)
    events = [event for event in service.history.events() if event["event"] == "part made"]
    assert len({event["pid"] for event in events}) == 3
    assert len(events) == LONG_COUNT
