"""`GET /apiv1/jobs/<job_id>` and `GET /apiv1/queue`; `test_rest_cancel` and `test_rest_failed` do the rest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from rest_support import SONG, Rest, encoded
from support import RedisServer, song_hash_number
from unmix.job import JobStatus
from unmix.names import hash_song
from unmix.outcome import Music

JOB_ID = hash_song(SONG)


def test_a_waiting_job_tells_its_place(rest: Rest) -> None:
    rest.queue.submit(song_hash_number(1), "g")
    rest.post_form(SONG)
    job = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (job["hash"], job["songhash"], job["status"]) == (JOB_ID, JOB_ID, "queued")
    assert (job["position"], job["progress"], job["attempt"]) == (2, 0.0, 0)
    usual = {"format": "mp3", "bits": 16, "mixture_consistency": False, "start": 0.0, "end": None}
    usual |= {"bitrate_kbps": None, "precision": None, "overlap": 0.25, "shifts": 0, "song_rate": False}
    assert job["options"] == {"model": "demo", "stems": [], **usual}
    assert job["stems"] == {}
    assert job["ran"] is None


def test_a_finished_job_is_told_without_a_look_at_others(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice"})

    def no_walk(*_: object, **__: object) -> None:
        raise AssertionError("everything that was ever separated is gone through")

    for walk in ("os.scandir", "os.listdir", "os.walk"):
        monkeypatch.setattr(walk, no_walk)
    for path in (f"jobs/{JOB_ID}", "jobs?limit=1", "queue", f"track/{JOB_ID}/vocals"):
        assert rest.client.get(f"/apiv1/{path}").status_code == 200


def test_a_running_job_tells_its_progress(rest: Rest) -> None:
    rest.post_form(SONG)
    claim = rest.queue.claim(str(rest.queue.take(block_seconds=1)), JOB_ID, "worker-1")
    assert claim is not None
    rest.queue.renew(claim, progress=0.25)
    job = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (job["status"], job["progress"], job["attempt"], job["position"]) == ("running", 0.25, 1, None)


def test_a_job_that_waits_for_a_retry_tells_when_and_why(rest: Rest) -> None:
    rest.post_form(SONG)
    claim = rest.queue.claim(str(rest.queue.take(block_seconds=1)), JOB_ID, "worker-1")
    assert claim is not None
    rest.queue.fail(claim, error_code="store_unavailable")
    job = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (job["status"], job["error_code"]) == ("queued", "store_unavailable")
    assert job["retry_at"].startswith("20")


def test_a_done_job_tells_its_stems_and_what_ran(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice", "drums": b"boom"})
    job = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (job["status"], job["progress"], job["attempt"]) == ("done", 1.0, 1)
    assert job["stems"]["vocals"]["size_bytes"] == 5
    assert job["stems"]["vocals"]["sha256"] == hash_song(b"voice")
    assert rest.client.get(job["stems"]["drums"]["url"]).data == b"boom"
    assert (job["ran"]["model"], job["ran"]["weights_sha256"], job["ran"]["device"]) == ("demo", "ab" * 32, "cpu")


def test_a_done_job_tells_its_key_and_tempo_and_null_where_nobody_has_listened(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice"}, music=Music("A minor", 0.8, 120.5, 0.7))
    told = {"key": "A minor", "key_confidence": 0.8, "tempo_bpm": 120.5, "tempo_confidence": 0.7}
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["music"] == told
    other = rest.post_form(SONG, format="wav").json["hash"]
    assert rest.client.get(f"/apiv1/jobs/{other}").json["music"] is None
    rest.finish(other, {"vocals": b"voice"})  # by a worker of an older version
    assert rest.client.get(f"/apiv1/jobs/{other}").json["music"] is None


def test_every_job_is_told_in_the_same_fields(rest: Rest) -> None:
    waiting = rest.post_form(SONG).json["hash"]
    fields = rest.client.get(f"/apiv1/jobs/{waiting}").json.keys()
    rest.finish(JOB_ID, {"vocals": b"voice"})
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json.keys() == fields
    rest.queue.submit(song_hash_number(1), "g")
    assert rest.client.get(f"/apiv1/jobs/{song_hash_number(1)}").json.keys() == fields


def test_a_job_that_is_kept_for_some_days_tells_until_when(tmp_path: Path, redis_url: str) -> None:
    rest = Rest(tmp_path, redis_url, keep_stems_days=2)
    rest.post_form(SONG)
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["expires_at"] is None
    rest.finish(JOB_ID, {"vocals": b"voice"}, finished_at="2026-01-30T10:00:00.000+00:00")
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["expires_at"] == "2026-02-01T10:00:00.000+00:00"


def test_what_the_demo_model_made_is_labelled(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice"})
    assert "demo" in rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["label"]


def test_a_failed_job_tells_why(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, status=JobStatus.FAILED, error_code="poison", error="it crashed three times", ran=None)
    job = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (job["status"], job["error_code"], job["error"]) == ("failed", "poison", "it crashed three times")
    assert job["stems"] == {}


def test_a_removed_stem_is_listed_no_more(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice", "drums": b"boom"})
    rest.client.get(f"/apiv1/remove/{JOB_ID}/drums")
    assert list(rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["stems"]) == ["vocals"]


def test_a_done_job_is_told_while_redis_is_away_and_an_open_one_is_not(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice"})
    waiting = rest.post_form(SONG, format="wav").json["hash"]
    own_redis.kill()
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["status"] == "done"
    assert rest.client.get(f"/apiv1/track/{JOB_ID}/vocals.mp3").data == b"voice"
    answer = rest.client.get(f"/apiv1/jobs/{waiting}")
    assert (answer.status_code, answer.json["code"]) == (503, "queue_unavailable")


def test_an_owed_job_that_redis_lost_counts_as_queued(rest: Rest, redis_url: str) -> None:
    rest.post_form(SONG)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    job = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (job["status"], job["position"]) == ("queued", None)


def test_an_element_that_another_producer_pushed_is_told(rest: Rest, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("toWorker", JOB_ID)
    job = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (job["status"], job["position"], job["options"]) == ("queued", 1, None)


def test_a_job_that_ends_while_it_is_asked_for_is_told_as_ended(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    rest.post_form(SONG)
    look = rest.queue.views.record_and_position

    def end_and_look(job_id: str) -> object:
        rest.finish(job_id, {"vocals": b"voice"})
        return look(job_id)

    monkeypatch.setattr(rest.queue.views, "record_and_position", end_and_look)
    job = rest.client.get(f"/apiv1/jobs/{JOB_ID}").json
    assert (job["status"], list(job["stems"])) == ("done", ["vocals"])


def test_a_note_is_told_beside_the_warnings_from_the_answer_on_to_the_end(rest: Rest) -> None:
    song = encoded(0.5, "wav", "pcm_s16le", rate=48_000)
    job_id, notes = hash_song(song), ["resampled from 48000 Hz to 44100 Hz"]
    for told in (rest.post_form(song).json, rest.client.get(f"/apiv1/jobs/{job_id}").json):
        assert (told["warnings"], told["notes"]) == ([], notes)
    rest.finish(job_id, {"vocals": b"voice"}, warnings=("clipped",), notes=("resampled",))
    told = rest.client.get(f"/apiv1/jobs/{job_id}").json
    assert (told["warnings"], told["notes"]) == (["clipped"], ["resampled"])


def test_an_outcome_of_an_earlier_submission_counts_as_none(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, status=JobStatus.FAILED, error_code="gave_up", ran=None)
    rest.post_form(SONG)
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").json["status"] == "queued"


def test_an_unknown_job_is_404(rest: Rest) -> None:
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}").status_code == 404


#: What is told of workers where none was ever there.
NOBODY = {
    "workers": {
        **{"ready": 0, "loading": 0},
        "message": "no worker is ready, songs wait until one is: none was seen in the last day",
    }
}


def test_the_queue_is_listed_in_the_order_of_service(rest: Rest) -> None:
    jobs = [song_hash_number(number) for number in range(5)]
    for job_id in jobs:
        rest.queue.submit(job_id, "g")
    numbers = {"positions": [1, 2, 3, 4, 5], "running_total": 0}
    assert rest.client.get("/apiv1/queue").json == {"queue": jobs, "total": 5, "running": [], **numbers, **NOBODY}


def test_a_page_of_the_queue_is_in_the_order_of_service(rest: Rest) -> None:
    jobs = [song_hash_number(number) for number in range(6)]
    for job_id in jobs:
        rest.queue.submit(job_id, "g")
    rest.queue.claim(str(rest.queue.take(block_seconds=1)), jobs[0], "worker-1")
    for offset, limit, page in [(0, 2, jobs[1:3]), (2, 2, jobs[3:5]), (4, 2, jobs[5:]), (5, 2, []), (99, 1, [])]:
        answer = rest.client.get(f"/apiv1/queue?offset={offset}&limit={limit}").json
        numbers = {"positions": [offset + place for place in range(1, len(page) + 1)], "running_total": 1}
        assert answer == {"queue": page, "total": 5, "running": jobs[:1], **numbers, **NOBODY}


@pytest.mark.parametrize("route", ["queue", "failed"])
@pytest.mark.parametrize(
    "query",
    ["offset=-1", "offset=x", "offset=1.5", "offset=", "offset=\u0661", "offset=1" + "0" * 20, "limit=0", "limit=-5"],
)
def test_a_page_that_is_none_is_refused(rest: Rest, route: str, query: str) -> None:
    answer = rest.client.get(f"/apiv1/{route}?{query}")
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_field")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "queue"),
        ("GET", "failed"),
        ("POST", f"jobs/{JOB_ID}/cancel"),
        ("POST", f"jobs/{JOB_ID}/retry"),
    ],
)
def test_what_needs_redis_says_when_to_ask_again_while_it_is_away(
    own_redis: RedisServer, tmp_path: Path, method: str, path: str
) -> None:
    rest = Rest(tmp_path, own_redis.url)
    rest.post_form(SONG)
    before = rest.stored()
    own_redis.kill()
    answer = rest.client.open(f"/apiv1/{path}", method=method)
    assert (answer.status_code, answer.json["code"]) == (503, "queue_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert rest.stored() == before


def test_an_old_client_may_send_null_with_its_get(rest: Rest) -> None:
    for path in ("/apiv1/queue", "/apiv1/queue/"):
        answer = rest.client.get(path, data="null", headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json) == (
            200,
            {"queue": [], "total": 0, "running": [], "positions": [], "running_total": 0, **NOBODY},
        )


def test_at_most_a_thousand_are_listed_and_all_are_counted(rest: Rest, redis_url: str) -> None:
    jobs = [song_hash_number(number) for number in range(1005)]
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("toWorker", *jobs)
    for query in ("", "?limit=5000"):
        answer = rest.client.get(f"/apiv1/queue{query}").json
        assert (answer["queue"], answer["total"]) == (jobs[:1000], 1005)


def test_what_is_no_job_is_counted_and_not_shown(rest: Rest, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("toWorker", b"\xff\xfe", "../../etc/passwd", JOB_ID, "<script>")
    assert rest.client.get("/apiv1/queue").json == {
        **{"queue": [JOB_ID], "total": 4, "running": []},
        **{"positions": [3], "running_total": 0, **NOBODY},
    }


def test_json_that_names_a_song_is_shown_as_the_job_that_it_asks_for(rest: Rest, redis_url: str) -> None:
    elements = (
        {"hash": JOB_ID, "model": None, "callback": {"url": "http://10.0.0.1/"}},
        {"songhash": JOB_ID, "model": "spleeter"},
        {"hash": 5},
        {"hash": "../x"},
        {"hash": JOB_ID, "more": "x" * 20_000},
    )
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("toWorker", *(json.dumps(element) for element in elements), "[]", "[" * 10_000)
    options = rest.settings.default_options
    other = replace(options, model="spleeter").job_id(JOB_ID, options)
    answer = rest.client.get("/apiv1/queue").json
    assert (answer["queue"], answer["positions"], answer["total"]) == ([JOB_ID, other], [1, 2], 7)
