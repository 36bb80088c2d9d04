"""REST as a process on a disk that fills up: songs stop in time, nothing is lost, and what removes always works."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from rest_process import HOLD, SONG, RestProcess, finish, send, start_upload
from small_disk import fill, free_bytes
from stack import Stack
from support import PATIENCE_SECONDS, RedisServer, eventually, make_song

DISK_MB = 40


@pytest.fixture
def full(small_disk: Callable[[int], Path], own_redis: RedisServer) -> Iterator[RestProcess]:
    """REST with all that it writes on one small disk; its Redis lies elsewhere."""
    rest = RestProcess(small_disk(DISK_MB), own_redis.url).wait_until_ready()
    yield rest
    rest.stop()


def post(rest: RestProcess, song: bytes) -> requests.Response:
    return requests.post(f"{rest.url}/apiv1/jobs", files={"file": song}, timeout=PATIENCE_SECONDS)


def delete(rest: RestProcess, job_id: str) -> int:
    return requests.delete(f"{rest.url}/apiv1/jobs/{job_id}", timeout=PATIENCE_SECONDS).status_code


def test_songs_are_refused_while_there_is_room_for_what_is_owed_and_removing_makes_room(full: RestProcess) -> None:
    accepted: list[str] = []
    for number in range(200):
        answer = post(full, make_song(4, number))
        if answer.status_code != 202:
            break
        accepted.append(answer.json()["hash"])
    assert (answer.status_code, answer.json()["code"]) == (507, "store_full")
    assert len(accepted) > 5
    assert free_bytes(full.temporary) > DISK_MB << 20 >> 3, "the stems of what is owed have room"
    ballast = fill(full.temporary, leave_bytes=3 << 20)
    ready = requests.get(f"{full.url}/readyz", timeout=30)
    assert (ready.status_code, ready.json()["checks"]) == (503, {"redis": "ok", "store": "store_full"})
    for path in ("apiv1/queue", f"apiv1/jobs/{accepted[0]}", "apiv1/failed", "healthz", "metrics"):
        assert requests.get(f"{full.url}/{path}", timeout=30).status_code == 200
    ballast.unlink()
    for job_id in accepted[:6]:
        assert delete(full, job_id) == 204
    assert post(full, make_song(4, 1000)).status_code == 202
    assert requests.get(f"{full.url}/readyz", timeout=30).status_code == 200


def test_what_removes_works_on_a_disk_without_a_byte_left(full: RestProcess, own_redis: RedisServer) -> None:
    done = send(full, SONG).json()["hash"]
    finish(full, done, bytes(1 << 20))
    owed = send(full, make_song(2, 5)).json()["hash"]
    ballast = fill(full.temporary)
    for path in ("apiv1/queue", f"apiv1/jobs/{done}", "apiv1/jobs", "metrics"):
        assert requests.get(f"{full.url}/{path}", timeout=30).status_code == 200
    for seconds, refusal in ((0.2, (507, "store_full")), (2, (503, "no_room"))):  # there is no room to read it whole
        refused = post(full, make_song(seconds, 6))
        assert (refused.status_code, refused.json()["code"]) == refusal
    assert free_bytes(full.temporary) == 0
    assert delete(full, owed) == 204
    fill(full.temporary)
    own_redis.kill()  # as a server does whose disk is full
    assert delete(full, done) == 204
    assert [name for name in full.stored() if not name.startswith("queue/open/")] == []
    own_redis.start()
    ballast.unlink()
    assert post(full, SONG).status_code == 202
    assert "Traceback" not in full.log.read_text()


def test_a_song_that_the_temporary_folder_cannot_take_is_asked_for_later(
    small_disk: Callable[[int], Path], tmp_path: Path, redis_url: str
) -> None:
    temporary = small_disk(30)
    rest = RestProcess(tmp_path, redis_url, TMPDIR=str(temporary)).wait_until_ready()
    try:
        answer = post(rest, make_song(100, 1))  # 17 MB, which lie there twice
        assert (answer.status_code, answer.json()["code"]) == (503, "no_room")
        assert int(answer.headers["Retry-After"]) > 0
        assert rest.stored() == []
        assert list(temporary.iterdir()) == []
        assert post(rest, make_song(60, 1)).status_code == 202
    finally:
        rest.stop()


def test_songs_on_their_way_are_bounded_in_all(start: Callable[..., RestProcess]) -> None:
    rest = start(patch=HOLD, UNMIX_UPLOAD_ROOM_MB="8", UNMIX_REST_THREADS="8")
    rest.hold_checks()
    held = [start_upload(rest, make_song(2, number)) for number in range(2)]  # of 350 kB each
    rest.wait_until_checking(2)
    answers: list[requests.Response] = []
    late = threading.Thread(target=lambda: answers.append(post(rest, make_song(8, 9))))
    late.start()
    late.join(timeout=PATIENCE_SECONDS)
    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "no_room")
    rest.let_checks_end()
    for peer in held:
        with peer:
            assert peer.recv(12) == b"HTTP/1.1 200"
    assert post(rest, make_song(4, 9)).status_code == 202


def test_what_a_killed_process_was_checking_is_swept_at_the_next_start(
    tmp_path: Path, redis_url: str, start: Callable[..., RestProcess]
) -> None:
    rest = start(patch=HOLD)
    rest.hold_checks()
    with start_upload(rest, SONG):
        rest.wait_until_checking(1)
        rest.process.kill()
        rest.process.wait()
    left = [path for path in rest.temporary.iterdir() if path.stat().st_size]
    assert len(left) == 1
    (tmp_path / "again").mkdir()
    again = RestProcess(tmp_path / "again", redis_url, TMPDIR=str(rest.temporary)).wait_until_ready()
    try:
        assert not left[0].exists()
    finally:
        again.stop()


def test_a_process_that_starts_leaves_the_songs_of_one_that_lives(
    tmp_path: Path, redis_url: str, start: Callable[..., RestProcess]
) -> None:
    rest = start(patch=HOLD)
    rest.hold_checks()
    with start_upload(rest, SONG) as peer:
        rest.wait_until_checking(1)
        (tmp_path / "beside").mkdir()
        beside = RestProcess(tmp_path / "beside", redis_url, TMPDIR=str(rest.temporary)).wait_until_ready()
        beside.stop()
        rest.let_checks_end()
        assert peer.recv(12) == b"HTTP/1.1 200"


def test_songs_whose_stems_have_no_room_wait_for_it_and_are_not_lost(
    small_disk: Callable[[int], Path], redis_url: str
) -> None:
    disk = small_disk(DISK_MB)
    stack = Stack(disk, redis_url, UNMIX_STORE_PATIENCE_SECONDS="1")
    try:
        stack.start(workers=0)
        jobs = [stack.post(make_song(4, number)) for number in range(3)]
        ballast = fill(disk, leave_bytes=1 << 20)
        stack.start_worker()
        eventually(lambda: "no room for the stems" in stack.logs(), "the worker has said so", explain=stack.logs)
        assert {stack.job(job_id)["status"] for job_id in jobs} <= {"queued", "running"}
        ballast.unlink()
        for job_id in jobs:
            assert stack.wait_until_over(job_id)["status"] == "done"
            assert stack.job(job_id)["attempt"] == 1, "no try was used up"
    finally:
        stack.stop()
