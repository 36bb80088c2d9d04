"""What becomes of songs when workers freeze and when Redis dies or forgets."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.clients import Order, SongMaker
from chaos.points import CHECK_TO_PUT, Plan
from chaos.service import Service
from support import RedisServer

MakeService = Callable[..., Service]

song = SongMaker("outages")


@pytest.mark.parametrize("point", CHECK_TO_PUT)
def test_a_worker_frozen_between_check_and_put_changes_nothing_when_it_wakes(service: Service, point: str) -> None:
    frozen = service.start_worker(Plan(point, "freeze"))
    service.carry_out(Order("post", song(1)))
    service.wait_for(lambda: frozen.stopped, "it is frozen")
    other = service.start_worker()
    assert not service.verdict().wrong
    delivered = service.read_objects()
    other.signal(signal.SIGKILL)
    frozen.signal(signal.SIGCONT)
    service.wait_for_event("woke")
    service.carry_out(Order("post", song(2)))  # which it can serve only after what it was about to do
    verdict = service.verdict()
    assert not verdict.wrong
    assert delivered.items() <= service.read_objects().items()


@pytest.mark.parametrize("point", CHECK_TO_PUT)
@pytest.mark.parametrize("wakes", ["before", "after"])
def test_a_worker_frozen_over_a_song_that_is_removed_and_posted_again_does_not_end_that(
    service: Service, point: str, wakes: str
) -> None:
    """It wakes before or after another worker has separated the song again."""
    frozen = service.start_worker(Plan(point, "freeze"))
    service.carry_out(Order("post", song(1)))
    service.wait_for(lambda: frozen.stopped, "it is frozen")
    service.carry_out(Order("remove", song(1)), Order("post", song(1)))
    if wakes == "after":
        service.start_worker()
        assert not service.verdict().wrong
    frozen.signal(signal.SIGCONT)
    service.wait_for_event("woke")
    service.carry_out(Order("post", song(2)))
    verdict = service.verdict()
    assert not verdict.wrong
    assert verdict.accepted == 2
    assert verdict.repeated == 0


def test_all_that_is_owed_is_queued_again_when_redis_forgets_everything(service: Service, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    service.start_worker()
    service.carry_out(Order("post", song(0, gate=str(gate))))
    service.wait_for_event("separating")
    service.carry_out(*(Order("post", song(number)) for number in range(1, 8)))
    service.flush_redis()
    service.start_worker()
    service.wait_for_event("separating", 2 + 7)  # the first one again, as nobody can know that its worker lives
    gate.touch()
    verdict = service.verdict()
    assert not verdict.wrong
    assert verdict.accepted == 8


def test_no_song_is_lost_with_a_kill_of_redis(
    make_service: MakeService, own_redis: RedisServer, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    service = make_service(own_redis)
    service.start_worker()
    service.carry_out(*(Order("post", song(number, gate=str(gate))) for number in range(4)))
    service.wait_for_event("separating")
    service.restart_redis()
    gate.touch()
    verdict = service.verdict()
    assert not verdict.wrong
    assert verdict.accepted == 4
