"""A folder that the first version left: finished, waiting and failed jobs go on with this one."""

import json
from pathlib import Path

import pytest
import redis
import requests

from stack import Stack
from support import make_song
from unmix.names import hash_song

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


@pytest.mark.parametrize("redis_is_kept", [True, False], ids=["redis kept", "redis lost"])
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
