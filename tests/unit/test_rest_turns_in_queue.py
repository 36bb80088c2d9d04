"""Whose turn it is in the queue."""

from pathlib import Path

from rest_support import Answer, Rest
from support import make_song
from unmix.access.keyring import Keyring
from unmix.access.keys import USUAL

SONGS = [make_song(2, number) for number in range(2, 8)]
ANNA, BEN = "10.0.0.1", "10.0.0.2"


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
