"""Whose turn it is in the queue, and who is refused because it would come too late."""

from pathlib import Path

import pytest

from rest_support import SONG, Answer, Rest
from support import make_song
from unmix.access.keyring import Keyring
from unmix.access.keys import USUAL
from unmix.queue.pulses import Work
from unmix.queue.speeds import Speed
from unmix_rest.eta import wait_seconds

SONGS = [make_song(2, number) for number in range(2, 8)]
ANNA, BEN = "10.0.0.1", "10.0.0.2"
MINUTE_EACH = {"demo": Speed(per_song=60, per_second=0)}


def send(rest: Rest, song: bytes, address: str = ANNA, **options: object) -> Answer:
    return rest.client.post("/apiv1/jobs", data=song, environ_base={"REMOTE_ADDR": address}, **options)


def position(rest: Rest, answer: Answer) -> int:
    return int(rest.client.get(f"/apiv1/jobs/{answer.json['hash']}").json["position"])


def test_each_address_has_its_turn_and_positions_say_so(rest: Rest) -> None:
    annas = [send(rest, song) for song in SONGS[:3]]
    bens = send(rest, SONGS[3], BEN)
    assert bens.json["position"] == position(rest, bens) == 2
    assert [position(rest, answer) for answer in annas] == [1, 3, 4]
    queue = rest.client.get("/apiv1/queue").json["queue"]
    assert queue.index(bens.json["hash"]) == 1
    assert rest.queue.pulses.positions([bens.json["hash"]]) == {bens.json["hash"]: 2}


def test_all_addresses_of_a_network_of_ipv6_are_one(rest: Rest) -> None:
    answers = [send(rest, song, f"2001:db8::{number}") for number, song in enumerate(SONGS[:3])]
    other = send(rest, SONGS[3], "2001:db8:0:1::1")
    assert [position(rest, answer) for answer in (*answers, other)] == [1, 3, 4, 2]


def test_keys_of_one_tenant_share_their_turns_wherever_they_ask_from(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, auth="keys")
    keys = {}
    for name, tenant in (("anna", "choir"), ("adam", "choir"), ("ben", "band")):
        _, key = Keyring(rest.store).create(name, scopes=USUAL, tenant=tenant)
        keys[name] = {"Authorization": f"Bearer {key}"}
    senders = ("anna", "adam", "anna", "ben")
    sent = [send(rest, song, headers=keys[name]).json["hash"] for name, song in zip(senders, SONGS, strict=False)]
    queue, _ = rest.queue.views.waiting(limit=10)
    assert [queue.index(job_id) for job_id in sent] == [0, 2, 3, 1]


def test_a_job_that_is_tried_again_takes_a_turn_of_whoever_asks(rest: Rest) -> None:
    first, *others = [send(rest, song) for song in SONGS[:3]]
    cancelled = send(rest, SONGS[3], BEN)
    rest.client.post(f"/apiv1/jobs/{cancelled.json['hash']}/cancel")
    rest.client.post(f"/apiv1/jobs/{cancelled.json['hash']}/retry", environ_base={"REMOTE_ADDR": BEN})
    assert [position(rest, answer) for answer in (first, cancelled, *others)] == [1, 2, 3, 4]


def test_the_wait_is_until_a_worker_is_free_for_what_comes_behind() -> None:
    song = Work("demo", 2, 0.5)
    assert wait_seconds({}, {}, MINUTE_EACH, ahead=0) == 0
    assert wait_seconds({"a": song}, {}, MINUTE_EACH, ahead=0) == 30
    assert wait_seconds({"a": song}, {"b": song, "c": song}, MINUTE_EACH, ahead=2) == 150
    assert wait_seconds({"a": song, "b": song}, {"c": song, "d": song}, MINUTE_EACH, ahead=2) == 90


def test_what_was_not_looked_at_is_taken_to_be_like_the_rest() -> None:
    song = Work("demo", 2, 0.0)
    assert wait_seconds({}, {"a": song, "b": song}, MINUTE_EACH, ahead=20) == 1200
    assert wait_seconds({}, {}, MINUTE_EACH, ahead=20) == 0
    assert wait_seconds({"a": Work("new", 2, 0)}, {"b": song}, MINUTE_EACH, ahead=1) == 0


@pytest.fixture
def busy(tmp_path: Path, redis_url: str) -> Rest:
    """A service whose songs take a minute each, with two of anna's waiting, and time for one more of hers."""
    rest = Rest(tmp_path, redis_url, max_backlog_minutes=2)
    rest.queue.speeds.note("demo", song_seconds=2, work_seconds=60)
    for song in SONGS[:2]:
        assert send(rest, song).status_code == 202
    return rest


def test_a_song_that_would_wait_too_long_is_refused_until_it_would_not(busy: Rest) -> None:
    assert send(busy, SONGS[2]).status_code == 202
    for answer in (
        send(busy, SONGS[3]),
        busy.client.post("/apiv1/uploads", environ_base={"REMOTE_ADDR": ANNA}),
    ):
        assert (answer.status_code, answer.json["code"]) == (503, "backlog_full")
        assert answer.headers["Retry-After"] == "60"
        assert answer.json["retry_after_seconds"] == 60
    assert len(busy.queue.views.waiting(limit=10)[0]) == 3
    busy.queue.take(block_seconds=1)
    assert send(busy, SONGS[3]).status_code == 202


def test_whose_turn_comes_soon_is_not_refused_for_what_others_have_waiting(busy: Rest) -> None:
    for song in SONGS[2:4]:
        send(busy, song)
    assert send(busy, SONGS[4], BEN).status_code == 202


def test_a_job_is_not_tried_again_while_it_would_wait_too_long(busy: Rest) -> None:
    job_id = send(busy, SONG, BEN).json["hash"]
    busy.client.post(f"/apiv1/jobs/{job_id}/cancel")
    send(busy, SONGS[2])
    answer = busy.client.post(f"/apiv1/jobs/{job_id}/retry", environ_base={"REMOTE_ADDR": ANNA})
    assert (answer.status_code, answer.json["code"]) == (503, "backlog_full")
    assert busy.client.post(f"/apiv1/jobs/{job_id}/retry", environ_base={"REMOTE_ADDR": BEN}).status_code == 200


def test_without_a_limit_or_a_speed_nothing_is_refused(rest: Rest, tmp_path: Path, redis_url: str) -> None:
    limited = Rest(tmp_path, redis_url, max_backlog_minutes=0.001)
    for one, song in zip((rest, limited, rest, limited), SONGS, strict=False):
        assert send(one, song).status_code == 202
