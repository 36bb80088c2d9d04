"""`POST /apiv1/separate`: what is accepted, what is answered, what then lies in the store and the queue."""

import base64
import json
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonpickle
import pytest

from rest_support import DEMO_CARD, SONG, Rest, encoded
from support import RedisServer
from unmix.audio.probe import Probe, ProbedSong
from unmix.audio.song_reader import measure
from unmix.job import Callback, JobStatus, SongLevel
from unmix.names import hash_song, song_object

PUBLIC: dict[str, Any] = {"url": "http://93.184.215.14/done", "data": {"ticket": 1}}


def test_an_old_client_gets_the_exact_answer_of_the_contract(rest: Rest) -> None:
    body = jsonpickle.encode({"mp3": base64.b64encode(SONG).decode(), "callback": PUBLIC}, keys=True)
    answer = rest.client.post("/apiv1/separate", data=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert answer.json["hash"] == answer.json["songhash"] == hash_song(SONG)
    assert answer.json["reason"] == "Song enqueued for separation"


def test_an_accepted_song_is_stored_requested_and_queued(rest: Rest) -> None:
    answer = rest.post_json(SONG, callback=PUBLIC)
    job_id = hash_song(SONG)
    assert rest.store.get(song_object(job_id))[0] == SONG
    request = rest.ledger.request(job_id)
    assert request is not None
    assert request.options.model == "demo"
    assert request.callbacks == (Callback(PUBLIC["url"], {"ticket": 1}),)
    assert request.duration_seconds == pytest.approx(2.0)
    assert request.level == SongLevel(**asdict(measure(BytesIO(SONG)).level))
    assert rest.queue.views.waiting(limit=9) == ([job_id], 1)
    assert answer.json["status"] == "queued"
    assert answer.json["warnings"] == []


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "image/png", None]
)
def test_any_content_type_will_do_for_a_body_that_is_json(rest: Rest, content_type: str | None) -> None:
    body = json.dumps({"mp3": base64.b64encode(SONG).decode()})
    assert rest.client.post("/apiv1/separate", data=body, content_type=content_type).status_code == 200


@pytest.mark.parametrize("field", ["file", "mp3"])
def test_a_form_makes_the_same_job_as_json(rest: Rest, field: str) -> None:
    assert rest.post_form(SONG, field=field).json["hash"] == rest.post_json(SONG).json["hash"]
    assert rest.queue.views.waiting(limit=9)[1] == 1


def test_a_trailing_slash_is_accepted(rest: Rest) -> None:
    assert rest.client.post("/apiv1/separate/", data={"file": (BytesIO(SONG), "a")}).status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        "data:audio/mpeg;base64," + base64.b64encode(SONG).decode(),
        base64.encodebytes(SONG).decode(),
        base64.encodebytes(SONG).decode().replace("\n", "\r\n"),
    ],
    ids=["data URL", "line breaks", "CRLF"],
)
def test_spellings_of_base64_give_the_same_bytes(rest: Rest, text: str) -> None:
    answer = rest.client.post("/apiv1/separate", json={"mp3": text})
    assert answer.json["hash"] == hash_song(SONG)
    assert rest.store.get(song_object(hash_song(SONG)))[0] == SONG


def test_escapes_inside_base64_are_undone(rest: Rest) -> None:
    text = base64.b64encode(SONG).decode()
    assert "/" in text
    assert "+" in text
    body = '{"mp3": "' + text.replace("/", "\\/").replace("+", "\\u002B") + '"}'
    assert rest.client.post("/apiv1/separate", data=body).json["hash"] == hash_song(SONG)


def test_fields_that_are_null_count_as_absent(rest: Rest) -> None:
    answer = rest.post_json(SONG, model=None, callback=None, songhash=None, stems=None)
    assert answer.status_code == 200
    assert answer.json["hash"] == hash_song(SONG)


def test_the_weights_that_workers_announce_stand_in_the_request(rest: Rest) -> None:
    rest.queue.models.announce(DEMO_CARD)
    request = rest.ledger.request(rest.post_form(SONG).json["hash"])
    assert request is not None
    assert request.options.weights_sha256 == DEMO_CARD.weights_sha256


def test_a_second_submission_joins_the_first(rest: Rest) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    first = rest.ledger.request(job_id)
    answer = rest.post_form(SONG)
    assert answer.json["hash"] == job_id
    assert rest.ledger.request(job_id) == first
    assert rest.queue.views.waiting(limit=9)[1] == 1


def test_a_second_submission_of_a_done_job_says_so_and_queues_nothing(rest: Rest) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    rest.finish(job_id, {"vocals": b"v"})
    assert rest.post_form(SONG).json["status"] == "done"
    assert rest.queue.views.waiting(limit=9)[1] == 0


def test_stems_of_other_weights_are_not_served_again(rest: Rest) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    rest.finish(job_id, {"vocals": b"v"})
    rest.queue.models.announce(replace(DEMO_CARD, weights_sha256="cd" * 32))
    assert rest.post_form(SONG).json["status"] == "queued"
    assert rest.queue.views.waiting(limit=9)[0] == [job_id]


def test_a_failed_job_is_tried_anew_when_submitted_again(rest: Rest) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    rest.finish(job_id, status=JobStatus.FAILED, error_code="gave_up", ran=None)
    assert rest.post_form(SONG).json["status"] == "queued"
    assert rest.queue.views.waiting(limit=9)[0] == [job_id]


def test_a_song_that_is_being_separated_answers_running(rest: Rest) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    assert rest.queue.take(block_seconds=1) == job_id
    rest.queue.claim(job_id, job_id, "worker-1")
    assert rest.post_form(SONG).json["status"] == "running"


def test_a_callback_of_a_second_submission_is_called_when_the_job_ends(rest: Rest) -> None:
    job_id = rest.post_json(SONG).json["hash"]
    rest.post_json(SONG, callback=PUBLIC)
    rest.finish(job_id, {"vocals": b"v"})
    assert rest.queue.outbox.due(limit=9) == [(job_id, 0)]


def test_a_callback_for_a_job_that_is_done_is_called_at_once(rest: Rest) -> None:
    job_id = rest.post_json(SONG).json["hash"]
    rest.finish(job_id, {"vocals": b"v"})
    assert rest.queue.outbox.due(limit=9) == []
    rest.post_json(SONG, callback=PUBLIC)
    assert rest.queue.outbox.due(limit=9) == [(job_id, 0)]


@pytest.mark.parametrize("url", ["http://localhost:5000", "http://169.254.169.254/", "gopher://example.com/"])
def test_an_old_client_with_a_forbidden_callback_is_served_and_warned(rest: Rest, url: str) -> None:
    answer = rest.post_json(SONG, callback={"url": url, "data": {"mp3": "short.mp3"}})
    assert answer.status_code == 200
    assert "callback will not be called" in answer.json["warnings"][0]
    request = rest.ledger.request(hash_song(SONG))
    assert request is not None
    assert request.callbacks == ()


def test_a_callback_of_a_form_is_json(rest: Rest) -> None:
    job_id = rest.post_form(SONG, callback=json.dumps(PUBLIC)).json["hash"]
    request = rest.ledger.request(job_id)
    assert request is not None
    assert request.callbacks == (Callback(PUBLIC["url"], {"ticket": 1}),)


def test_a_callback_that_is_only_a_url_is_told_what_it_has_to_be(rest: Rest) -> None:
    answer = rest.post_form(SONG, callback=PUBLIC["url"])
    assert answer.json["code"] == "invalid_json"
    assert 'callback has to be JSON such as {"url": ' in answer.json["detail"]


def test_a_named_private_callback_is_accepted(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, callback_allow="hooks.svc, 10.0.0.0/8")
    for url in ("http://hooks.svc/", "http://10.1.2.3:8080/x"):
        assert rest.post_form(SONG, callback=json.dumps({"url": url})).status_code == 200


def test_jsonpickle_tags_in_a_callback_stay_data(rest: Rest) -> None:
    data = {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["touch /tmp/pwned"]}]}
    job_id = rest.post_json(SONG, callback={"url": PUBLIC["url"], "data": data}).json["hash"]
    request = rest.ledger.request(job_id)
    assert request is not None
    assert request.callbacks[0].data == data


def test_file_names_do_not_matter(rest: Rest) -> None:
    for name in ("../../etc/passwd", "<script>.mp3", "\u202e\u200bsong🎵.mp3", "x" * 10_000):
        answer = rest.post_form(SONG, name=name)
        assert answer.status_code == 200
        assert name not in answer.text


def test_nothing_is_stored_while_redis_is_away(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    own_redis.kill()
    for answer in (rest.post_json(SONG), rest.post_form(SONG)):
        assert (answer.status_code, answer.json["code"]) == (503, "queue_unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert "127.0.0.1" not in answer.text
    assert rest.stored() == []


def test_nothing_is_stored_when_redis_goes_while_the_song_is_checked(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Probe.check

    def check_and_lose_redis(probe: Probe, path: Path, **options: Any) -> ProbedSong:
        own_redis.kill()
        return check(probe, path, **options)

    rest = Rest(tmp_path, own_redis.url)
    monkeypatch.setattr(Probe, "check", check_and_lose_redis)
    assert rest.post_form(SONG).status_code == 503
    assert rest.stored() == []


def test_a_song_counts_as_not_accepted_when_redis_goes_after_it_was_stored(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = Rest(tmp_path, own_redis.url)
    put_file = rest.store.put_file

    def put_and_lose_redis(*args: object) -> None:
        put_file(*args)  # type: ignore[arg-type]
        own_redis.kill()

    monkeypatch.setattr(rest.store, "put_file", put_and_lose_redis)
    answer = rest.post_form(SONG)
    assert (answer.status_code, answer.json["code"]) == (503, "queue_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "unmix_songs_accepted_total 0.0" in rest.client.get("/metrics").text

    own_redis.start()
    assert rest.post_form(SONG).status_code == 200
    assert rest.queue.views.waiting(limit=9)[0] == [hash_song(SONG)]


def test_a_store_that_is_away_answers_503_and_queues_nothing(rest: Rest, tmp_path: Path) -> None:
    (tmp_path / "store" / "queue").rmdir()
    answer = rest.post_form(SONG)
    assert answer.status_code == 503
    assert str(tmp_path) not in answer.text
    assert rest.queue.views.waiting(limit=9)[1] == 0


def test_a_song_that_lies_there_cut_short_is_stored_anew(rest: Rest) -> None:
    rest.store.put(song_object(hash_song(SONG)), SONG[:1000])
    rest.post_form(SONG)
    assert rest.store.get(song_object(hash_song(SONG)))[0] == SONG


def test_warnings_of_the_check_are_passed_on(rest: Rest) -> None:
    whole = encoded(4, "mp3", "libmp3lame")
    answer = rest.post_form(whole[: len(whole) // 2])
    assert answer.status_code == 200
    assert answer.json["warnings"]
    request = rest.ledger.request(answer.json["hash"])
    assert request is not None
    assert list(request.warnings) == answer.json["warnings"]


@pytest.mark.parametrize(
    ("container", "codec", "rate", "layout"),
    [
        ("mp3", "libmp3lame", 44_100, "stereo"),
        ("wav", "pcm_s16le", 8_000, "mono"),
        ("wav", "pcm_s24le", 96_000, "stereo"),
        ("flac", "flac", 48_000, "5.1"),
        ("ipod", "aac", 44_100, "stereo"),
        ("ogg", "libopus", 48_000, "stereo"),
    ],
)
def test_common_formats_are_accepted(rest: Rest, container: str, codec: str, rate: int, layout: str) -> None:
    # Above 500 kB Flask's test client leaves its own temporary file open.
    song = encoded(0.5, container, codec, rate=rate, layout=layout)
    answer = rest.post_form(song)
    assert answer.status_code == 200, answer.text
    request = rest.ledger.request(answer.json["hash"])
    assert request is not None
    assert request.duration_seconds == pytest.approx(0.5, abs=0.1)
