"""Songs through the whole service: what a user gets, from any client of the contract."""

import base64
import json
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

import jsonpickle
import psutil
import pytest
import redis
import requests

from s3_servers import ACCESS_KEY, SECRET_KEY, S3Server
from stack import Stack
from support import CallbackServer, make_song
from unmix import names
from unmix.engine.sdr import sdr_db
from unmix.local.demo import decode
from unmix.names import hash_song, stem_object
from unmix.settings import Settings
from unmix_worker.elements import parse_element

MakeStack = Callable[..., Stack]
STEMS = {"vocals", "drums", "bass", "other"}


def test_an_old_client_gets_its_stems(service: Stack) -> None:
    """The client of the old contract: jsonpickle, a GET with a body, 200 and `hash`."""
    song = make_song(4, seed=11)
    headers = {"Content-type": "application/json"}
    body = jsonpickle.encode(
        {
            "mp3": base64.b64encode(song).decode(),
            "callback": {"url": "http://localhost:5000", "data": {"mp3": "data.mp3", "data": "to be returned"}},
        },
        keys=True,
    )
    answer = requests.post(f"{service.url}/apiv1/separate", data=body, headers=headers, timeout=30)
    assert answer.status_code == 200
    assert answer.json()["hash"] == hash_song(song)
    assert answer.json()["reason"] == "Song enqueued for separation"
    queue = requests.get(f"{service.url}/apiv1/queue", data="null", headers=headers, timeout=30)
    assert queue.status_code == 200
    assert set(queue.json()["queue"]) <= {hash_song(song)}

    assert service.wait_until_over(hash_song(song))["status"] == "done"
    for stem in STEMS:
        track = requests.get(f"{service.url}/apiv1/track/{hash_song(song)}/{stem}.mp3", timeout=30)
        assert track.headers["Content-Type"] == "audio/mpeg"
        copy = names.stem_object(hash_song(song), stem, "mp3")
        service.wait_for(partial(service.objects.stat, copy), "the copy for clients that read the bucket is there")
        assert service.objects.get(copy)[0] == track.content
    assert requests.get(f"{service.url}/apiv1/remove/{hash_song(song)}/vocals.mp3", timeout=30).status_code == 200
    assert requests.get(f"{service.url}/apiv1/track/{hash_song(song)}/vocals.mp3", timeout=30).status_code == 404


def test_a_running_song_can_be_cancelled_and_the_next_one_is_served(service: Stack) -> None:
    _, child, job_id = service.half_way(make_song(30, seed=12))
    answer = requests.post(f"{service.url}/apiv1/jobs/{job_id}/cancel", timeout=30)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    job = service.job(job_id)
    assert (job["status"], job["stems"]) == ("cancelled", {})
    assert service.wait_until_over(service.post(make_song(2, seed=13)))["status"] == "done"
    assert service.job(job_id)["status"] == "cancelled"
    assert [service.child_of(worker) for worker in service.living_workers()] == [child]  # with its model
    assert not psutil.Process(child).children()  # the decoder of the cancelled song is gone
    left = [info.name.key for info in service.objects.list(names.OUTPUT_BUCKET, names.attempt_prefix(job_id))]
    assert not [key for key in left if not key.startswith(names.parts_prefix(job_id))]  # parts are the janitor's


def test_the_bundled_song_comes_back_as_its_own_stems_and_as_long_as_it_was(service: Stack, tmp_path: Path) -> None:
    folder = Path(str(resources.files("unmix.local") / "demo_song"))
    song = folder / "demo-song.mp3"
    mixture = decode(song)
    sources = {stem: decode(folder / f"demo-song-{stem}.flac") for stem in STEMS}
    job_id = service.post(song.read_bytes())
    job = service.wait_until_over(job_id)
    assert job["label"]  # nobody shall take the demo model for the real one
    assert job["ran"]["backend"].startswith("openvino ")
    assert job["music"]["key"] == "A major"
    assert abs(job["music"]["tempo_bpm"] / 94.3 - 1) < 0.02
    for stem in STEMS:
        delivered = tmp_path / f"{stem}.mp3"
        delivered.write_bytes(service.stem(job_id, stem))
        estimate = decode(delivered)
        assert estimate.shape == mixture.shape
        assert max(STEMS, key=lambda name: sdr_db(sources[name], estimate)) == stem
        assert sdr_db(sources[stem], estimate) - sdr_db(sources[stem], mixture) > 5


@pytest.mark.parametrize("form", ["hash", "json_hash", "json_songhash"])
def test_a_foreign_push_of_a_stored_song_is_served(service: Stack, form: str) -> None:
    song = make_song(4, seed=100 + len(form))
    job_id = hash_song(song)
    (service.store / "queue" / f"{job_id}.mp3").write_bytes(song)
    _push(
        service,
        {
            "hash": job_id,
            "json_hash": json.dumps({"hash": job_id, "model": None, "callback": None}),
            "json_songhash": json.dumps({"songhash": job_id, "model": "demo", "callback": {"url": "http://10.0.0.1/"}}),
        }[form],
    )
    service.wait_for(lambda: service.objects.stat(names.outcome_object(job_id)), "the outcome is there")
    assert service.wait_until_over(job_id)["status"] == "done"


def test_a_foreign_push_of_a_model_that_is_not_there_is_a_job_that_failed(service: Stack) -> None:
    element = {"hash": hash_song(make_song(4, seed=14)), "model": "spleeter"}
    job_id = parse_element(json.dumps(element), Settings(model="demo")).job_id
    _push(service, json.dumps(element))
    service.wait_for(lambda: service.objects.stat(names.outcome_object(job_id)), "the outcome is there")
    job = service.wait_until_over(job_id)
    assert (job["status"], job["error_code"]) == ("failed", "unknown_model")
    assert "demo" in job["error"]


def test_junk_in_the_list_is_given_up_and_leaves_nothing_behind(service: Stack) -> None:
    song = make_song(4, seed=13)
    before = _queue_bucket(service)
    for junk in ("../../etc/passwd", "x" * 10_000_000, "{", '{"hash": "../x"}', '{"hash": 5}', "[]", "\x00\x01"):
        _push(service, junk)
    _push(service, json.dumps({"hash": hash_song(song), "mp3": "QUJD"}))
    callback = '{"url": "http://93.184.215.14/", "data": ' + 900 * '{"a":' + "NaN" + 901 * "}"
    _push(service, f'{{"hash": "{hash_song(song)}", "callback": {callback}}}')
    (worker,) = service.living_workers()
    job_id = service.post(song)
    assert service.wait_until_over(job_id)["status"] == "done"
    assert _queue_bucket(service) - before == {f"{job_id}.mp3", f"{job_id}.json"}
    assert service.living_workers() == [worker]


def test_a_pushed_hash_without_a_song_fails_and_says_so(service: Stack) -> None:
    job_id = hash_song(b"never stored")
    _push(service, job_id)
    service.wait_for(
        lambda: requests.get(f"{service.url}/apiv1/jobs/{job_id}", timeout=30).json().get("status") == "failed",
        "the job failed",
    )
    assert service.job(job_id)["error_code"] == "input_missing"


def test_stored_bytes_that_do_not_match_the_hash_fail(service: Stack) -> None:
    job_id = hash_song(b"something else")
    (service.store / "queue" / f"{job_id}.mp3").write_bytes(make_song(2, seed=14))
    _push(service, job_id)
    service.wait_for(lambda: service.objects.stat(names.outcome_object(job_id)), "the outcome is there")
    assert service.wait_until_over(job_id)["error_code"] == "hash_mismatch"


@pytest.mark.slow
def test_removing_a_running_song_stops_it_for_good_and_it_can_be_sent_again(service: Stack) -> None:
    song = make_song(30, seed=15)
    job_id = service.post(song)
    service.wait_until_half_way(job_id)
    service.remove(job_id)
    service.wait_for(lambda: any(":job lost" in line for line in service.queue.log_list.peek()), "the worker noticed")
    assert requests.get(f"{service.url}/apiv1/jobs/{job_id}", timeout=30).status_code == 404
    assert not {name for name in _queue_bucket(service) if name.startswith(job_id)}
    assert service.post(song) == job_id
    assert service.wait_until_over(job_id)["status"] == "done"


def test_a_callback_is_delivered_once_the_stems_are_there(service: Stack) -> None:
    with CallbackServer() as receiver:
        job_id = service.post(make_song(4, seed=18), callback={"url": receiver.url, "data": {"ticket": 7}})
        service.wait_for(lambda: receiver.bodies, "the callback arrived")
    body = receiver.bodies[0]
    assert (body["ticket"], body["hash"], body["status"]) == (7, job_id, "done")
    assert set(body["tracks"]) == STEMS


def test_a_pushed_song_that_is_too_long_fails_as_an_uploaded_one_would(service: Stack) -> None:
    song = make_song(62, seed=19)
    job_id = hash_song(song)
    (service.store / "queue" / f"{job_id}.mp3").write_bytes(song)
    _push(service, job_id)
    service.wait_for(lambda: service.objects.stat(names.outcome_object(job_id)), "the outcome is there")
    assert service.job(job_id)["error_code"] == "too_long"


@pytest.mark.slow
def test_two_workers_start_five_songs_in_the_order_of_submission_and_each_once(make_stack: MakeStack) -> None:
    stack = make_stack().start(workers=2)
    job_ids = [stack.post(make_song(4, seed=seed)) for seed in range(5)]
    assert [stack.wait_until_over(job_id)["status"] for job_id in job_ids] == ["done"] * 5
    assert stack.started_jobs() == job_ids
    assert [stack.outcome(job_id)["attempt"] for job_id in job_ids] == [1] * 5


@pytest.mark.slow
def test_the_literal_blpop_form_serves_songs_too(make_stack: MakeStack) -> None:
    stack = make_stack(UNMIX_FETCH="blpop").start()
    job_id = stack.post(make_song(4, seed=16))
    assert stack.wait_until_over(job_id)["status"] == "done"


def test_a_song_goes_through_an_s3_store(make_stack: MakeStack, moto: S3Server) -> None:
    keys = {"UNMIX_STORE_ACCESS_KEY": ACCESS_KEY, "UNMIX_STORE_SECRET_KEY": SECRET_KEY}
    stack = make_stack(UNMIX_STORE_URL=moto.url, **keys).start()
    job_id = stack.post(make_song(4, seed=1))
    assert stack.wait_until_over(job_id)["status"] == "done"
    stems = {stem: stack.stem(job_id, stem) for stem in STEMS}
    store = moto.store()
    for stem, data in stems.items():
        copied, _ = store.get(stem_object(job_id, stem, "mp3"))
        assert copied == data


@pytest.mark.slow
def test_stems_of_one_model_are_not_served_for_another(make_stack: MakeStack, tmp_path: Path) -> None:
    """Another default model is another job, even though the id is the same song hash."""
    song = make_song(4, seed=17)
    stack = make_stack().start()
    job_id = stack.post(song)
    first = stack.wait_until_over(job_id)
    assert first["ran"]["model"] == "demo"
    stack.stop()
    models = tmp_path / "models"
    models.mkdir()
    weights = resources.files("unmix.engine") / "weights" / "demo.safetensors"
    (models / "other.safetensors").write_bytes(weights.read_bytes())
    other = make_stack(UNMIX_MODEL="other", UNMIX_MODEL_DIR=str(models)).start()
    assert other.post(song) == job_id
    second = other.wait_until_over(job_id)
    assert second["ran"]["model"] == "other"


def _push(stack: Stack, element: str) -> None:
    """LPUSH as a foreign producer does."""
    with redis.Redis.from_url(stack.settings["UNMIX_REDIS_URL"]) as client:
        client.lpush("toWorker", element)


def _queue_bucket(service: Stack) -> set[str]:
    """What lies in the bucket, but for marks, which the janitor takes away."""
    keys = {info.name.key for info in service.objects.list(names.QUEUE_BUCKET)}
    return {key for key in keys if not key.startswith(names.OPEN_PREFIX)}
