"""What is let in: by the room on the store's disk, by what is owed, by Redis' memory; and what an unknown error is."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from flask import Response
from werkzeug.exceptions import Conflict, InternalServerError, UnprocessableEntity

from rest_support import SONG, Rest
from support import RedisServer, make_song
from unmix.errors import StoreError, UnmixError
from unmix.job import JobRequest, SeparationOptions, SongLevel
from unmix.ledger.ledger import utc_now
from unmix.ledger.room import refuse_if_full, reserve_bytes, result_bytes
from unmix.store.file import FileStore
from unmix.store.protocol import Room
from unmix_rest.http.temporary import Temporary
from unmix_rest.http.upload_room import UploadRoom

GB = 10**9


def asked(seconds: float, **options: object) -> JobRequest:
    chosen = SeparationOptions("demo", **options)  # type: ignore[arg-type]
    return JobRequest("0" * 64, chosen, utc_now(), duration_seconds=seconds)


def needed(request: JobRequest, *, parts: bool = True) -> float:
    return result_bytes(request, usual_bitrate_kbps=256, parts=parts)


def test_a_reserve_is_what_is_set_and_no_more_than_a_tenth_of_a_small_disk() -> None:
    assert reserve_bytes(Room(0, 500 * GB), 1) == GB
    assert reserve_bytes(Room(0, 4 * GB), 1) == 4 * GB // 10
    assert reserve_bytes(Room(0, 500 * GB), 0) == 0


def test_what_would_touch_the_reserve_is_refused_and_what_tells_no_room_is_not() -> None:
    refuse_if_full(Room(3 * GB, 100 * GB), 1, more_bytes=2 * GB)
    refuse_if_full(None, 1, more_bytes=10**15)
    with pytest.raises(StoreError) as caught:
        refuse_if_full(Room(3 * GB, 100 * GB), 1, more_bytes=2 * GB + 1)
    assert (caught.value.code, caught.value.retryable) == ("store_full", True)


def test_more_and_larger_stems_need_more_room() -> None:
    stems = needed(asked(20), parts=False)
    assert stems == pytest.approx(4 * 20 * 32_000, rel=0.2)
    assert needed(asked(20)) == stems, "a short song leaves no parts"
    assert needed(asked(200)) > 20 * stems
    assert needed(asked(20, format="wav")) > 5 * stems
    assert needed(asked(20, stems=("vocals",))) < stems / 2
    assert needed(asked(20, start=5.0, end=10.0)) < stems / 2


def test_stems_in_the_rate_of_the_song_need_as_much_as_that_asks_for() -> None:
    usual, unknown = asked(200, format="wav"), asked(200, format="wav", song_rate=True)
    fine, same = (replace(unknown, level=SongLevel(1, 0.0, 1.0, "", rate, 1)) for rate in (96_000, 44_100))
    assert needed(usual) == needed(same) < needed(fine) < needed(unknown)
    assert needed(fine, parts=False) > 96_000 / 44_100 * needed(usual, parts=False)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the store's disk have so much room."""

    def let(free_bytes: float) -> None:
        monkeypatch.setattr(FileStore, "room", lambda _: Room(int(free_bytes), 1000 * GB))

    return let


def test_a_song_is_refused_for_want_of_room_before_anything_is_stored(
    rest: Rest, room: Callable[[float], None]
) -> None:
    room(GB - 1)
    for answer in (
        rest.post_form(SONG),
        rest.post_json(SONG),
        rest.client.post("/apiv1/jobs", data=SONG),
        rest.client.post("/apiv1/uploads"),
    ):
        assert (answer.status_code, answer.json["code"]) == (507, "store_full")
    assert rest.stored() == []


def test_what_is_owed_keeps_its_room(rest: Rest, room: Callable[[float], None]) -> None:
    room(GB + 3_000_000)
    codes = [rest.post_form(make_song(2, number)).status_code for number in range(9)]
    assert codes[0] == 200
    assert codes[-1] == 507
    assert sorted(codes) == codes, "the more is owed, the less is let in"


def test_a_piece_of_an_upload_is_refused_too(rest: Rest, room: Callable[[float], None]) -> None:
    url = rest.client.post("/apiv1/uploads").json["url"]
    room(GB)
    answer = rest.client.open(url, method="PUT", data=SONG)
    assert (answer.status_code, answer.json["code"]) == (507, "store_full")


def test_readyz_writes_and_tells_that_redis_takes_nothing(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    assert rest.client.get("/readyz").status_code == 200
    with redis.Redis.from_url(own_redis.url) as admin:
        admin.config_set("maxmemory", admin.info("memory")["used_memory"])
        answer = rest.client.get("/readyz")
        assert (answer.status_code, answer.json["checks"]["store"]) == (503, "ok")
        assert answer.json["checks"]["redis"] in ("queue_unavailable", "queue_full")
        assert rest.post_form(SONG).status_code == 503
        admin.config_set("maxmemory", 100 << 20)
    assert rest.client.get("/readyz").status_code == 200


def test_songs_are_refused_while_redis_still_has_room(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    with redis.Redis.from_url(own_redis.url) as admin:
        for number in range(100):
            admin.set(f"much-{number}", bytes(100_000))
        admin.config_set("maxmemory", int(admin.info("memory")["used_memory"] * 1.08))
    answer = rest.post_form(SONG)
    assert (answer.status_code, answer.json["code"]) == (503, "queue_full")
    assert rest.stored() == []
    rest.queue.ping()
    rest.queue.submit("0" * 64, "g1")  # what is owed still finds its way


def _push_without_end(anybody: "redis.Redis") -> None:
    for number in range(10_000):
        anybody.lpush("logging", f"{number:05}" + "x" * 9_995)


def test_lines_of_others_are_cut_to_what_they_may_take(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    with redis.Redis.from_url(own_redis.url, decode_responses=True) as anybody:
        anybody.config_set("maxmemory", 12 << 20)
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            _push_without_end(anybody)
        assert rest.post_form(SONG).status_code == 503
        rest.queue.log_list.trim(max_lines=10_000, max_bytes=1_000_000)
        kept = rest.queue.log_list.peek()
        assert len(kept) == 100
        assert int(kept[-1][:5]) - int(kept[0][:5]) == 99, "the newest stay"
        assert rest.post_form(SONG).status_code == 200
        rest.queue.log_list.trim(max_lines=7, max_bytes=1_000_000)
        assert len(rest.queue.log_list.peek()) == 7
        rest.queue.log_list.trim(max_lines=7, max_bytes=1)
        assert rest.queue.log_list.peek() == []


@pytest.mark.parametrize("error", [InternalServerError(), Conflict(), UnprocessableEntity()])
def test_an_error_that_the_table_does_not_know_is_ours(rest: Rest, error: Exception) -> None:
    def fail() -> Response:
        raise error

    rest.client.application.view_functions["ops.healthz"] = fail
    answer = rest.client.get("/healthz")
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")


def test_an_error_whose_telling_fails_is_no_fault_of_the_request(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Response:
        raise StoreError("away")

    class Full:
        def error(self, *_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

    rest.client.application.view_functions["ops.healthz"] = fail
    rest.client.application.testing = False
    monkeypatch.setattr("unmix_rest.http.problems.log", Full())
    with pytest.raises(OSError, match="No space"):  # what a server answers with 500
        rest.client.get("/healthz")


def test_temporary_files_count_from_their_announcement_to_their_end() -> None:
    temporary = Temporary(UploadRoom(most_bytes=4000, min_free_gb=0))
    with temporary.file("a", 600) as first:
        with pytest.raises(UnmixError) as caught, temporary.file("a", 600):
            pass
        assert (caught.value.code, caught.value.retryable) == ("no_room", True)
        first.write(bytes(900))  # more than was announced
        with temporary.file("b", 550):
            pass
        with pytest.raises(UnmixError), temporary.file("b", 0) as second:
            second.write(bytes(776))
        assert first.path.stat().st_size == 900
    assert not first.path.exists()
    with temporary.file("a", 1000):
        pass


def test_however_few_clients_have_the_room_they_never_have_all_of_it() -> None:
    room = UploadRoom(most_bytes=1 << 20, min_free_gb=0)
    for client in ("a", "b", "c", "d"):
        with suppress(UnmixError):
            while True:
                room.take_written(client, 1 << 10)
    room.look("e", 80 << 10)
    for client in ("a", "b", "c", "d"):
        with pytest.raises(UnmixError):
            room.look(client, 1 << 10)


def test_bodies_may_go_below_the_reserve_so_that_the_service_can_say_that_its_store_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = UploadRoom(most_bytes=GB, min_free_gb=1)
    monkeypatch.setattr("unmix_rest.http.upload_room.room_at", lambda _: Room(GB // 2 + 1000, 100 * GB))
    room.look("a", 1000)
    room.take_written("a", 1000)
    with pytest.raises(UnmixError):
        room.look("a", 1001)
    with pytest.raises(UnmixError):
        room.take("a", 1)
