"""A folder that the first version left: finished, waiting and failed jobs go on with this one."""

import json
from pathlib import Path

import pytest
import redis
import requests

from stack import Stack
from support import CallbackServer, make_song
from unmix.document import SCHEMA
from unmix.names import hash_song, outcome_object, request_object

SUBMITTED = "2026-11-01T10:00:00.000+00:00"


def document(**fields: object) -> bytes:
    return json.dumps(fields, sort_keys=True).encode()


def request_of(song_hash: str) -> bytes:
    """A request as d81cb97 wrote it: without a number of its form."""
    options = {"format": "wav", "mixture_consistency": False, "model": "demo", "stems": [], "weights_sha256": None}
    return document(
        callbacks=[],
        duration_seconds=2.0,
        generation="0123456789abcdef",
        job_id=song_hash,
        options=options,
        submitted_at=SUBMITTED,
        warnings=[],
    )


def outcome_of(song_hash: str, **fields: object) -> bytes:
    known = {
        "attempt": 1,
        "deliveries": {},
        "error": None,
        "error_code": None,
        "finished_at": "2026-11-01T10:01:00.000+00:00",
        "format": "wav",
        "generation": "0123456789abcdef",
        "job_id": song_hash,
        "ran": None,
        "stems": {},
        "token": "aa",
        "warnings": [],
        "worker": "worker-1",
    }
    return document(**{**known, **fields})


@pytest.mark.parametrize(
    "redis_is_kept", [pytest.param(True, id="redis kept", marks=pytest.mark.slow), pytest.param(False, id="redis lost")]
)
def test_a_folder_of_the_first_version_goes_on(redis_url: str, tmp_path: Path, redis_is_kept: bool) -> None:
    finished, waiting, failed = (make_song(2, seed=seed) for seed in (41, 42, 43))
    files = {}
    for song in (finished, waiting, failed):
        files[f"queue/{hash_song(song)}.mp3"] = song
        files[f"queue/{hash_song(song)}.json"] = request_of(hash_song(song))
    stem = {"key": f"{hash_song(finished)}/aa/vocals.wav", "sha256": hash_song(b"a voice"), "size_bytes": 7}
    files[f"output/{hash_song(finished)}.json"] = outcome_of(hash_song(finished), status="done", stems={"vocals": stem})
    files[f"output/{stem['key']}"] = files[f"output/{hash_song(finished)}-vocals.wav"] = b"a voice"
    files[f"output/{hash_song(failed)}.json"] = outcome_of(
        hash_song(failed), status="failed", error_code="gave_up", error="given up after the last try"
    )
    for name, data in files.items():
        path = tmp_path / "store" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if redis_is_kept:
        with redis.Redis.from_url(redis_url) as client:
            client.lpush("toWorker", hash_song(waiting))
    stack = Stack(tmp_path, redis_url, UNMIX_RECONCILE_SECONDS="1").start()
    try:
        track = requests.get(f"{stack.url}/apiv1/track/{hash_song(finished)}/vocals.wav", timeout=30)
        assert track.content == b"a voice"
        assert stack.wait_until_over(hash_song(waiting))["status"] == "done"
        assert stack.job(hash_song(failed))["error_code"] == "gave_up"
        stack.wait_for(lambda: stack.queue.views.failed(limit=9)[0] == [hash_song(failed)], "the failure is listed")
        retried = requests.post(f"{stack.url}/apiv1/jobs/{hash_song(failed)}/retry", timeout=30)
        assert retried.status_code == 200
        assert stack.wait_until_over(hash_song(failed))["status"] == "done"
        stack.wait_for(lambda: not list(stack.objects.list("queue", "open/")), "nothing is marked as open any more")
    finally:
        stack.stop()


def as_tomorrow_writes(data: bytes) -> bytes:
    """Return a document with fields that only a later version knows, in itself and in an object within it."""
    fields = json.loads(data)
    inner = fields["options"] if "options" in fields else fields["ran"]
    inner["of_tomorrow"] = fields["of_tomorrow"] = ["kept"]
    fields["schema"] += 1
    return json.dumps(fields).encode()


def test_in_a_rolling_update_old_and_new_processes_work_on_the_same_jobs(redis_url: str, tmp_path: Path) -> None:
    """A newer REST accepts, the older worker separates; what a newer worker ended, the older REST serves and joins."""
    stack = Stack(tmp_path, redis_url, UNMIX_RECONCILE_SECONDS="1", UNMIX_CALLBACK_ALLOW="127.0.0.1").start(workers=0)
    try:
        job_id = stack.post(make_song(2, seed=51), format="wav")
        asked = stack.objects.get(request_object(job_id))[0]
        stack.objects.put(request_object(job_id), as_tomorrow_writes(asked))
        stack.start_worker()
        done = stack.wait_until_over(job_id)
        assert done["status"] == "done"
        stack.objects.put(outcome_object(job_id), as_tomorrow_writes(stack.objects.get(outcome_object(job_id))[0]))
        assert {**stack.job(job_id), "ran": None} == {**done, "ran": None}
        with CallbackServer() as receiver:
            callback = {"url": receiver.url, "data": {}}
            assert stack.post(make_song(2, seed=51), format="wav", callback=callback) == job_id
            stack.wait_for(lambda: receiver.bodies, "the callback of the one who joined is delivered")
            stack.wait_for(lambda: stack.job(job_id)["callbacks"], "its delivery is noted")
        for name in (request_object(job_id), outcome_object(job_id)):
            document = json.loads(stack.objects.get(name)[0])
            assert document["of_tomorrow"] == ["kept"]
            assert document["schema"] == SCHEMA + 1
    finally:
        stack.stop()


@pytest.mark.slow
def test_a_damaged_request_ends_its_job_where_everybody_sees_it(service: Stack) -> None:
    busy = service.post(make_song(20, seed=52), format="flac")  # keeps the only worker busy
    songs = {make_song(2, seed=53 + number): damage for number, damage in enumerate((b"", b"{", b"\x00\xff"))}
    job_ids = []
    for song, damage in songs.items():
        job_ids.append(service.post(song))
        service.objects.put(request_object(job_ids[-1]), damage)
    for job_id in job_ids:
        job = service.wait_until_over(job_id)
        assert (job["status"], job["error_code"], job["options"]) == ("failed", "bad_document", None)
    assert service.wait_until_over(busy)["status"] == "done"
    assert service.post(next(iter(songs))) == job_ids[0]
    assert service.wait_until_over(job_ids[0])["status"] == "done"
