"""What each key may have, or each address where there are no keys, and how whoever asks is told."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from rest_support import SONG, Answer, Rest
from support import RedisServer, make_song
from unmix import names
from unmix.access.keyring import Keyring
from unmix.access.keys import USUAL

SONGS = [make_song(2, number) for number in range(2, 6)]
ANNA, BEN = "10.0.0.1", "10.0.0.2"


@pytest.fixture
def service(tmp_path: Path, redis_url: str) -> Callable[..., Rest]:
    """A service with quotas, none but those that are named."""

    def make(**settings: Any) -> Rest:
        return Rest(tmp_path, redis_url, **settings)

    return make


def ask(rest: Rest, path: str = "/apiv1/queue", *, address: str = ANNA, **more: Any) -> Answer:
    return rest.client.get(path, environ_base={"REMOTE_ADDR": address}, **more)


def send(rest: Rest, song: bytes, *, address: str = ANNA, **query: str) -> Answer:
    return rest.client.post("/apiv1/jobs", data=song, query_string=query, environ_base={"REMOTE_ADDR": address})


def used(rest: Rest, quota: str, *, address: str = ANNA, **more: Any) -> float:
    return float(ask(rest, "/apiv1/usage", address=address, **more).json["quotas"][quota]["used"])


def refusal(answer: Answer) -> tuple[int, str, str]:
    assert int(answer.headers["Retry-After"]) == answer.json["retry_after_seconds"] > 0
    return answer.status_code, answer.json["code"], answer.json["quota"]


def test_requests_are_counted_by_address_and_answers_say_how_many_are_left(service: Callable[..., Rest]) -> None:
    rest = service(quota_requests_per_minute=2)
    first, second, third = (ask(rest) for _ in range(3))
    assert first.headers["RateLimit-Policy"] == third.headers["RateLimit-Policy"] == '"requests";q=2;w=60'
    assert first.headers["RateLimit"].startswith('"requests";r=1;t=')
    assert second.headers["RateLimit"].startswith('"requests";r=0;t=')
    assert third.headers["RateLimit"] == f'"requests";r=0;t={third.headers["Retry-After"]}'
    assert refusal(third) == (429, "quota_exceeded", "requests")
    assert third.json["limit"] == 2
    assert datetime.fromisoformat(third.json["free_at"]) > datetime.now(UTC)
    assert "2 times a minute" in third.json["detail"]
    assert ask(rest, address=BEN).status_code == 200


def test_what_is_open_to_all_and_the_question_why_are_not_counted(service: Callable[..., Rest]) -> None:
    rest = service(quota_requests_per_minute=1)
    ask(rest)
    for path in ("/healthz", "/apiv1/models", "/ui", "/apiv1/usage"):
        answer = ask(rest, path)
        assert answer.status_code == 200
        assert "RateLimit" not in answer.headers
    assert rest.client.options("/apiv1/queue", environ_base={"REMOTE_ADDR": ANNA}).status_code == 200
    assert ask(rest).status_code == 429


def test_each_key_has_its_own_and_whoever_comes_by_a_link_uses_none_of_it(service: Callable[..., Rest]) -> None:
    rest = service(quota_requests_per_minute=3, auth="keys")
    headers = {}
    for name in ("anna", "ben"):
        _, key = Keyring(rest.store).create(name, scopes=USUAL, tenant="main")
        headers[name] = {"Authorization": f"Bearer {key}"}
    job_id = rest.client.post("/apiv1/jobs", data=SONG, headers=headers["anna"]).json["hash"]
    link = rest.client.post(f"/apiv1/jobs/{job_id}/links", headers=headers["anna"]).json["link"]
    for _ in range(2):
        assert ask(rest, f"/apiv1/jobs/{job_id}?link={link}").status_code == 200
    assert used(rest, "requests", headers=headers["anna"]) == pytest.approx(2, abs=0.5)
    assert ask(rest, headers=headers["anna"]).status_code == 200
    assert ask(rest, headers=headers["anna"], address=BEN).status_code == 429, "it is the same key"
    assert ask(rest, headers=headers["ben"]).status_code == 200


def test_only_so_many_jobs_of_one_are_open_until_one_is_over(service: Callable[..., Rest]) -> None:
    rest = service(quota_jobs=2)
    accepted = [send(rest, song).json["hash"] for song in SONGS[:2]]
    refused = send(rest, SONGS[2])
    assert refusal(refused) == (429, "quota_exceeded", "jobs")
    assert refused.json["free_at"] is None
    assert names.hash_song(SONGS[2]) not in "".join(rest.stored())
    assert rest.post_form(SONGS[3]).status_code == 200, "another address"
    rest.finish(accepted[0])
    assert send(rest, SONGS[2]).status_code == 202
    assert send(rest, SONGS[3]).status_code == 429
    rest.client.delete(f"/apiv1/jobs/{accepted[1]}")
    assert send(rest, SONGS[3]).status_code == 202, "it joins a job of another, which takes no place"
    assert used(rest, "jobs") == 1


def test_a_song_that_is_sent_again_costs_nothing(service: Callable[..., Rest]) -> None:
    rest = service(quota_jobs=1, quota_song_minutes_per_day=0.05)
    for _ in range(3):
        assert send(rest, SONG).status_code == 202
    assert used(rest, "jobs") == 1
    assert used(rest, "song_minutes") == pytest.approx(2 / 60, abs=0.002)


def test_a_song_that_is_refused_costs_nothing(service: Callable[..., Rest]) -> None:
    rest = service(quota_jobs=1, quota_song_minutes_per_day=10, max_song_seconds=1)
    assert send(rest, SONG).json["code"] == "too_long"
    assert send(rest, b"no song at all").status_code == 415
    assert (used(rest, "jobs"), used(rest, "song_minutes")) == (0, 0)


def test_minutes_of_song_are_counted_as_often_as_they_are_computed(service: Callable[..., Rest]) -> None:
    rest = service(quota_song_minutes_per_day=0.1)  # 6 s
    assert send(rest, SONG, start="0.5", end="1.5").status_code == 202
    assert send(rest, SONG, shifts="2").status_code == 202
    assert used(rest, "song_minutes") == pytest.approx(5 / 60, abs=0.002)
    refused = send(rest, SONGS[2])
    assert refusal(refused) == (429, "quota_exceeded", "song_minutes")
    assert refused.json["retry_after_seconds"] == pytest.approx(86_400 / 6, rel=0.05)
    assert send(rest, SONG, end="1").status_code == 202, "a shorter one still fits"
    assert send(rest, SONGS[2], shifts="5").json["code"] == "too_long", "more than there ever is"


def test_a_song_by_url_counts_as_the_longest_that_there_may_be(service: Callable[..., Rest]) -> None:
    rest = service(quota_song_minutes_per_day=1.5, song_urls=True)
    body = {"url": "https://example.com/song.mp3"}
    answers = [rest.client.post("/apiv1/jobs", json=body, environ_base={"REMOTE_ADDR": ANNA}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 429]
    assert used(rest, "song_minutes") == pytest.approx(1, abs=0.01)


def test_a_job_that_is_tried_again_is_counted_again(service: Callable[..., Rest]) -> None:
    rest = service(quota_jobs=1, quota_song_minutes_per_day=0.05)
    job_id = send(rest, SONG).json["hash"]
    rest.client.post(f"/apiv1/jobs/{job_id}/cancel")
    assert used(rest, "jobs") == 0
    refused = rest.client.post(f"/apiv1/jobs/{job_id}/retry", environ_base={"REMOTE_ADDR": ANNA})
    assert refusal(refused) == (429, "quota_exceeded", "song_minutes")
    assert rest.client.post(f"/apiv1/jobs/{job_id}/retry", environ_base={"REMOTE_ADDR": BEN}).status_code == 200
    assert (used(rest, "jobs"), used(rest, "jobs", address=BEN)) == (0, 1)


def test_only_so_many_uploads_of_one_are_open_until_there_is_a_job_of_one(service: Callable[..., Rest]) -> None:
    rest = service(quota_uploads=1)
    address = {"REMOTE_ADDR": ANNA}
    ticket = rest.client.post("/apiv1/uploads", environ_base=address).json
    assert refusal(rest.client.post("/apiv1/uploads", environ_base=address)) == (429, "quota_exceeded", "uploads")
    rest.client.open(ticket["url"], method="PUT", data=SONG, environ_base=address)
    body = {"upload": ticket["upload_id"]}
    assert rest.client.post("/apiv1/jobs", json=body, environ_base=address).status_code == 202
    assert rest.client.post("/apiv1/uploads", environ_base=address).status_code == 201


def test_usage_tells_of_the_quotas_that_are_set(service: Callable[..., Rest]) -> None:
    assert ask(service(), "/apiv1/usage").json == {"quotas": {}}
    rest = service(quota_jobs=3, quota_song_minutes_per_day=60)
    send(rest, SONG)
    told = ask(rest, "/apiv1/usage").json["quotas"]
    assert told["jobs"] == {"limit": 3, "used": 1, "window_seconds": None, "full_at": None}
    assert (told["song_minutes"]["limit"], told["song_minutes"]["window_seconds"]) == (60, 86_400)
    assert datetime.fromisoformat(told["song_minutes"]["full_at"]) > datetime.now(UTC)


def test_without_quotas_nothing_is_counted_and_nothing_said(service: Callable[..., Rest], redis_url: str) -> None:
    rest = service()
    answer = send(rest, SONG)
    assert "RateLimit" not in answer.headers
    with redis.Redis.from_url(redis_url) as client:
        assert list(client.scan_iter("unmix:quota:*")) == []


def test_what_is_over_is_told_while_redis_is_away_and_what_redis_has_lost_is_forgiven(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    rest = Rest(tmp_path, own_redis.url, quota_requests_per_minute=10, quota_jobs=1)
    job_id = send(rest, SONG).json["hash"]
    rest.finish(job_id)
    assert send(rest, SONGS[1]).status_code == 202
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
    assert send(rest, SONGS[2]).status_code == 202
    own_redis.kill()
    answer = ask(rest, f"/apiv1/jobs/{job_id}")
    assert (answer.status_code, "RateLimit" in answer.headers) == (200, False)
    assert send(rest, SONGS[3]).status_code == 503
    assert ask(rest, "/apiv1/usage").status_code == 503
