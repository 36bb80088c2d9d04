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
from unmix.audio.level import Level
from unmix.audio.probe import Probe, ProbedSong
from unmix.audio.song_reader import SongReader
from unmix.job import Callback, JobStatus, SongLevel
from unmix.names import hash_song, song_object
from unmix.outcome import Ran

FAST = {"precision": "fast"}
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
    assert request.level == SongLevel(**asdict(Level.of(SongReader(BytesIO(SONG)))))
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


def test_other_options_make_another_job_of_the_same_song(rest: Rest) -> None:
    default = rest.post_form(SONG).json["hash"]
    other = rest.post_form(SONG, model="htdemucs", stems="vocals,base", format="flac").json["hash"]
    assert default == hash_song(SONG)
    assert other.startswith(f"{default}.")
    request = rest.ledger.request(other)
    assert request is not None
    assert (request.options.model, request.options.stems, request.options.format) == (
        "htdemucs",
        ("vocals", "bass"),
        "flac",
    )


def test_karaoke_is_a_job_of_its_own(rest: Rest) -> None:
    rest.queue.models.announce(DEMO_CARD)
    job_id = rest.post_form(SONG, stems="vocals,instrumental").json["hash"]
    assert rest.post_json(SONG, stems=["instrumental", "vocals"]).json["hash"] == job_id
    others = {rest.post_form(SONG, stems=stems).json["hash"] for stems in ("", "vocals", "instrumental")}
    assert len({job_id, *others}) == 4
    request = rest.ledger.request(job_id)
    assert request is not None
    assert request.options.stems == ("vocals", "instrumental")


def test_mixture_consistency_makes_another_job_and_leaving_it_out_is_to_say_false(rest: Rest) -> None:
    consistent = rest.post_json(SONG, mixture_consistency=True).json["hash"]
    assert rest.post_form(SONG, mixture_consistency="true").json["hash"] == consistent
    assert rest.client.get(f"/apiv1/jobs/{consistent}").json["options"]["mixture_consistency"] is True
    assert consistent != hash_song(SONG)
    assert rest.post_json(SONG, mixture_consistency=False).json["hash"] == hash_song(SONG)
    assert rest.post_form(SONG, mixture_consistency="False").json["hash"] == hash_song(SONG)


def test_stems_of_24_bits_are_another_job_and_16_are_what_one_gets(rest: Rest) -> None:
    fine = rest.post_json(SONG, format="flac", bits=24).json["hash"]
    assert rest.post_form(SONG, format="flac", bits="24").json["hash"] == fine
    assert rest.client.get(f"/apiv1/jobs/{fine}").json["options"]["bits"] == 24
    plain = rest.post_form(SONG, format="flac", bits="16").json["hash"]
    assert rest.post_json(SONG, format="flac").json["hash"] == plain != fine
    assert rest.post_json(SONG, bits=16).json["hash"] == hash_song(SONG)
    assert rest.post_json(SONG, format="wav", bits=32).status_code == 200


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"bits": 24}, "unknown_bits"),
        ({"bits": 24, "format": "mp3"}, "unknown_bits"),
        ({"bits": 32, "format": "flac"}, "unknown_bits"),
        ({"bits": 8, "format": "wav"}, "unknown_bits"),
        ({"bits": -1, "format": "wav"}, "unknown_bits"),
        ({"bits": 24.5, "format": "wav"}, "invalid_field"),
        ({"bits": True, "format": "wav"}, "invalid_field"),
        ({"bits": "many", "format": "wav"}, "invalid_field"),
        ({"bits": [24], "format": "wav"}, "invalid_field"),
        ({"bits": 10**400, "format": "wav"}, "invalid_field"),
    ],
)
def test_bits_that_a_format_does_not_have_are_refused_and_nothing_is_stored(
    rest: Rest, fields: dict[str, Any], code: str
) -> None:
    assert rest.post_json(SONG, **fields).json["code"] == code
    if not isinstance(fields["bits"], list):
        assert rest.post_form(SONG, **{name: str(value) for name, value in fields.items()}).json["code"] == code
    assert rest.stored() == []


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ({"bitrate_kbps": 256}, {"bitrate_kbps": 320}),
        ({"precision": "fast"}, {"precision": "exact"}),
        ({"overlap": 0.25}, {"overlap": 0.75}),
        ({"shifts": 0}, {"shifts": 5}),
    ],
    ids=lambda fields: str(*fields),
)
def test_how_it_is_computed_and_encoded_makes_another_job_where_it_is_not_as_usual(
    rest: Rest, usual: dict[str, Any], other: dict[str, Any]
) -> None:
    plain = rest.post_form(SONG).json["hash"]
    for fields in (usual, dict.fromkeys(usual)):
        assert rest.post_json(SONG, **fields).json["hash"] == plain
    assert rest.post_form(SONG, **{name: str(value) for name, value in usual.items()}).json["hash"] == plain
    different = rest.post_json(SONG, **other).json["hash"]
    assert different != plain
    assert rest.post_form(SONG, **{name: str(value) for name, value in other.items()}).json["hash"] == different
    options = rest.client.get(f"/apiv1/jobs/{different}").json["options"]
    assert {name: options[name] for name in other} == other


def test_usual_is_what_the_operator_says(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, mp3_bitrate_kbps=192, precision="exact")
    assert rest.post_json(SONG, bitrate_kbps=192, precision="exact").json["hash"] == hash_song(SONG)
    assert len({rest.post_json(SONG, **fields).json["hash"] for fields in ({"bitrate_kbps": 256}, {}, FAST)}) == 3
    request = rest.ledger.request(hash_song(SONG))
    assert request is not None
    assert (request.options.bitrate_kbps, request.options.precision) == (192, "exact")


def test_stems_that_were_made_in_another_way_than_is_named_now_are_not_served_again(rest: Rest) -> None:
    job_id = rest.post_form(SONG).json["hash"]
    ran = Ran("demo", "ab" * 32, "cpu", 44_100, 2.0, 0.5, precision="fast", bitrate_kbps=192)
    rest.finish(job_id, {"vocals": b"v"}, ran=ran)
    assert rest.post_json(SONG).json["status"] == "done"
    assert rest.post_json(SONG, precision="fast").json["status"] == "done"
    assert rest.post_json(SONG, bitrate_kbps=256).json["status"] == "queued"  # the usual one was another then
    assert rest.queue.views.waiting(limit=9)[0] == [job_id]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"bitrate_kbps": 192, "format": "flac"}, "unknown_bitrate"),
        ({"bitrate_kbps": 256, "format": "wav"}, "unknown_bitrate"),
        ({"bitrate_kbps": 193}, "unknown_bitrate"),
        ({"bitrate_kbps": 0}, "unknown_bitrate"),
        ({"bitrate_kbps": -192}, "unknown_bitrate"),
        ({"bitrate_kbps": 192.5}, "invalid_field"),
        ({"precision": "FAST"}, "unknown_precision"),
        ({"precision": "float64"}, "unknown_precision"),
        ({"precision": 32}, "invalid_field"),
        ({"overlap": 0.09}, "out_of_range"),
        ({"overlap": 0.7500001}, "out_of_range"),
        ({"overlap": 0}, "out_of_range"),
        ({"overlap": -0.25}, "out_of_range"),
        ({"overlap": True}, "invalid_field"),
        ({"overlap": "nan"}, "invalid_field"),
        ({"shifts": 6}, "out_of_range"),
        ({"shifts": -1}, "out_of_range"),
        ({"shifts": 10**9}, "out_of_range"),
        ({"shifts": 10**400}, "invalid_field"),
        ({"shifts": 0.5}, "invalid_field"),
        ({"shifts": [1]}, "invalid_field"),
    ],
)
def test_ways_that_there_are_not_are_refused_and_nothing_is_stored(
    rest: Rest, fields: dict[str, Any], code: str
) -> None:
    assert rest.post_json(SONG, **fields).json["code"] == code
    if all(isinstance(value, str | float) for value in fields.values()):
        answer = rest.post_form(SONG, **{name: str(value) for name, value in fields.items()})
        assert (answer.status_code, answer.json["code"]) == (422, code)
    assert rest.stored() == []


def test_the_refusal_of_a_bit_rate_says_which_format_has_one(rest: Rest) -> None:
    assert "only mp3" in rest.post_json(SONG, format="flac", bitrate_kbps=192).json["detail"]
    assert "320" in rest.post_json(SONG, bitrate_kbps=321).json["detail"]


def test_a_region_is_another_job_of_the_song(rest: Rest) -> None:
    job_id = rest.post_json(SONG, start=0.5, end=1).json["hash"]
    assert rest.post_form(SONG, start="0.50", end="1.0").json["hash"] == job_id != hash_song(SONG)
    assert rest.post_form(SONG, start="0.5").json["hash"] not in (job_id, hash_song(SONG))
    job = rest.client.get(f"/apiv1/jobs/{job_id}").json
    assert (job["options"]["start"], job["options"]["end"], job["duration_seconds"]) == (0.5, 1.0, 2.0)
    assert rest.post_json(SONG, start=0, end=None).json["hash"] == hash_song(SONG)
    assert rest.post_json(SONG, start=0, end=2).status_code == 200


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"start": "2"}, "bad_region"),
        ({"start": "3", "end": "4"}, "bad_region"),
        ({"end": "2.1"}, "bad_region"),
        ({"start": "1", "end": "1"}, "bad_region"),
        ({"start": "1", "end": "0.5"}, "bad_region"),
        ({"start": "-1"}, "bad_region"),
        ({"end": "0"}, "bad_region"),
        ({"start": "nan"}, "invalid_field"),
        ({"end": "inf"}, "invalid_field"),
        ({"end": "1e999"}, "invalid_field"),
        ({"start": "0:30"}, "invalid_field"),
    ],
)
def test_a_region_that_the_song_does_not_have_is_refused_and_nothing_is_stored(
    rest: Rest, fields: dict[str, str], code: str
) -> None:
    answer = rest.post_form(SONG, **fields)
    assert (answer.status_code, answer.json["code"]) == (422, code)
    in_json: dict[str, Any] = {}
    for name, value in fields.items():
        in_json[name] = float(value) if code == "bad_region" else [value]
    assert rest.post_json(SONG, **in_json).json["code"] == code
    assert rest.stored() == []


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

    def check_and_lose_redis(probe: Probe, path: Path) -> ProbedSong:
        own_redis.kill()
        return check(probe, path)

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
