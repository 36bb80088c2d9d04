"""What becomes of a song when a process is killed at a named point of its work."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from chaos import roles
from chaos.clients import Order, SongMaker
from chaos.points import SUBMIT_POINTS, WORKER_POINTS, Plan
from chaos.service import Service

MakeService = Callable[..., Service]

song = SongMaker("deaths")
#: Points at which the outcome stands: what is left to do is done without separating again.
COMMITTED = ("after_commit", "after_first_copy", "after_publish", "after_finish")


@pytest.mark.parametrize("point", [point for point in WORKER_POINTS if point not in COMMITTED])
def test_a_song_survives_the_death_of_its_worker(service: Service, point: str) -> None:
    worker = service.start_worker(Plan(point, "kill"))
    service.carry_out(Order("post", song(1)))
    assert worker.wait(30) == -signal.SIGKILL
    service.start_worker()
    verdict = service.verdict()
    assert not verdict.wrong
    assert verdict.accepted == 1


@pytest.mark.parametrize("point", COMMITTED)
def test_a_song_whose_outcome_stands_is_not_separated_again(make_service: MakeService, point: str) -> None:
    service = make_service(UNMIX_RECONCILE_SECONDS="60")  # which would settle it before anybody claims it
    worker = service.start_worker(Plan(point, "kill"))
    service.carry_out(Order("post", song(1)))
    assert worker.wait(30) == -signal.SIGKILL
    service.start_worker()
    verdict = service.verdict(also_marks=False)
    assert not verdict.wrong
    assert verdict.runs == 1


def test_a_song_whose_outcome_stands_is_settled_by_the_reconciler(service: Service) -> None:
    worker = service.start_worker(Plan("after_commit", "kill"))
    service.carry_out(Order("post", song(1)))
    assert worker.wait(30) == -signal.SIGKILL
    assert not service.verdict().wrong  # though nobody else works


@pytest.mark.parametrize("point", SUBMIT_POINTS)
def test_a_client_that_dies_before_it_is_answered_harms_nobody_and_may_post_again(service: Service, point: str) -> None:
    service.start_worker()
    client = service.start_client([Order("post", song(1))], Plan(point, "kill"))
    assert client.wait(30) == -signal.SIGKILL
    service.carry_out(Order("post", song(2)))
    assert not service.verdict().wrong
    service.carry_out(Order("post", song(1)))
    verdict = service.verdict()
    assert not verdict.wrong
    assert verdict.accepted == verdict.runs == 2


def test_a_cancel_that_died_half_way_has_cancelled(service: Service) -> None:
    service.carry_out(Order("post", song(1)))
    client = service.start_client([Order("cancel", song(1))], Plan("after_cancel_commit", "kill"))
    assert client.wait(30) == -signal.SIGKILL
    service.start_worker()
    verdict = service.verdict()
    assert not verdict.wrong
    assert verdict.runs == 0


@pytest.mark.parametrize("point", ["after_request_removal", "after_removal"])
def test_a_removal_that_died_half_way_can_be_repeated(service: Service, point: str) -> None:
    service.carry_out(Order("post", song(1)))
    client = service.start_client([Order("remove", song(1))], Plan(point, "kill"))
    assert client.wait(30) == -signal.SIGKILL
    service.start_worker()
    service.carry_out(Order("remove", song(1)))
    assert not service.verdict().wrong


def test_songs_of_workers_that_are_told_to_stop_are_neither_lost_nor_charged(make_service: MakeService) -> None:
    service = make_service(UNMIX_SHUTDOWN_SECONDS="2")
    service.carry_out(*(Order("post", song(number)) for number in range(len(WORKER_POINTS))))
    for point in WORKER_POINTS:
        assert service.start_worker(Plan(point, "stop")).wait(30) == 0
    service.start_worker()
    verdict = service.verdict()
    assert not verdict.wrong
    assert verdict.accepted == len(WORKER_POINTS)
    objects = service.read_objects()
    outcomes = [
        json.loads(data) for key, data in objects.items() if key.startswith("output/") and key.endswith(".json")
    ]
    assert {outcome["attempt"] for outcome in outcomes} == {1}


def test_a_song_that_kills_its_separating_process_is_given_up_after_exactly_three(service: Service) -> None:
    service.carry_out(*(Order("post", song(number, poison=number == 1)) for number in range(3)))
    service.start_worker()
    verdict = service.verdict()
    assert not verdict.wrong
    assert verdict.runs == 2 + 3


def test_the_literal_blpop_form_is_safe_through_the_reconciler(make_service: MakeService) -> None:
    service = make_service(UNMIX_FETCH="blpop")
    worker = service.start_worker(Plan("after_take", "kill"))
    service.carry_out(Order("post", song(1)))
    assert worker.wait(30) == -signal.SIGKILL
    service.start_worker()
    verdict = service.verdict(also_marks=False)
    assert not verdict.wrong
    assert verdict.runs == 1


def test_the_naive_worker_loses_a_song_when_it_dies_between_pop_and_write(service: Service, tmp_path: Path) -> None:
    """The control: without it, a song that was never in danger would look as if it had been saved."""
    with redis.Redis.from_url(service.redis.url) as client:
        client.lpush("toWorker", song(1))
        first = service.fork("legacy", roles.run_naive_worker, service.history, tmp_path, 1)
        assert first.wait(30) == -signal.SIGKILL
        client.lpush("toWorker", song(2))
        service.fork("legacy", roles.run_naive_worker, service.history, tmp_path)
        service.wait_for(lambda: list(tmp_path.glob("*.done")), "the second song is done")
        assert client.llen("toWorker") == 0
    assert len(list(tmp_path.glob("*.done"))) == 1
