"""Stems out of the service, and jobs out of the store."""

import json
from collections.abc import Generator
from io import BytesIO
from pathlib import Path
from typing import cast

import pytest
import redis

from rest_support import DEMO_CARD, SONG, Rest
from support import RedisServer
from unmix.names import hash_song, request_object, stem_object
from unmix_rest.http.downloads import paced

JOB_ID = hash_song(SONG)
STEMS = {name: f"{name} ".encode() * 10_000 for name in ("vocals", "drums", "bass", "other")}
VOCALS = STEMS["vocals"]


@pytest.fixture
def done(rest: Rest) -> Rest:
    """A service with one song that is done."""
    rest.post_form(SONG)
    rest.finish(JOB_ID, STEMS)
    return rest


@pytest.mark.parametrize(
    "path",
    [
        f"track/{JOB_ID}/vocals.mp3",
        f"track/{JOB_ID}/vocals",
        f"track/{JOB_ID}/vocals/",
        f"track?hash={JOB_ID}&track=vocals",
        f"track?file_id={JOB_ID}&component=vocals.mp3",
    ],
)
def test_a_stem_is_a_download_under_every_spelling_of_its_url(done: Rest, path: str) -> None:
    answer = done.client.get(f"/apiv1/{path}")
    assert (answer.status_code, answer.data) == (200, VOCALS)
    assert answer.content_type == "audio/mpeg"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="vocals.mp3"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["ETag"] == f'"{hash_song(VOCALS)}"'


def test_base_is_bass(done: Rest) -> None:
    answer = done.client.get(f"/apiv1/track/{JOB_ID}/base.mp3")
    assert answer.data == STEMS["bass"]
    assert 'filename="bass.mp3"' in answer.headers["Content-Disposition"]


def test_a_get_of_a_stem_may_carry_null(done: Rest) -> None:
    answer = done.client.get(f"/apiv1/track/{JOB_ID}/drums", data="null", content_type="application/json")
    assert answer.data == STEMS["drums"]


@pytest.mark.parametrize(
    ("format", "media_type"),
    [("wav", "audio/wav"), ("flac", "audio/flac"), ("m4a", "audio/mp4"), ("opus", "audio/ogg"), ("ogg", "audio/ogg")],
)
def test_stems_of_other_formats_say_what_they_are(rest: Rest, format: str, media_type: str) -> None:
    job_id = rest.post_form(SONG, format=format).json["hash"]
    rest.finish(job_id, {"vocals": b"voice"})
    answer = rest.client.get(f"/apiv1/track/{job_id}/vocals.{format}")
    assert (answer.data, answer.content_type) == (b"voice", media_type)
    assert answer.headers["Content-Disposition"] == f'attachment; filename="vocals.{format}"'


def test_a_file_of_all_stems_is_found_by_its_name_with_and_without_extension(rest: Rest) -> None:
    job_id = rest.post_form(SONG, format="stem.mp4").json["hash"]
    rest.finish(job_id, {"stems": b"all of them"})
    (url,) = (stem["url"] for stem in rest.client.get(f"/apiv1/jobs/{job_id}").json["stems"].values())
    assert url == f"/apiv1/track/{job_id}/stems.stem.mp4"
    for path in (url, f"/apiv1/track/{job_id}/stems"):
        answer = rest.client.get(path, headers={"Range": "bytes=4-5"})
        assert (answer.status_code, answer.data, answer.content_type) == (206, b"of", "audio/mp4")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="stems.stem.mp4"'
    assert rest.client.get(f"/apiv1/track/{job_id}/stems.mp4").status_code == 400


def test_head_is_as_get_without_the_body(done: Rest) -> None:
    answer = done.client.head(f"/apiv1/track/{JOB_ID}/vocals.mp3")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(VOCALS))


@pytest.mark.parametrize(
    ("range_header", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=70-99", 70, 99), ("bytes=69990-", 69990, 69999), ("bytes=-5", 69995, 69999)],
)
def test_one_range_of_a_stem_can_be_had(done: Rest, range_header: str, first: int, last: int) -> None:
    answer = done.client.get(f"/apiv1/track/{JOB_ID}/vocals", headers={"Range": range_header})
    assert (answer.status_code, answer.data) == (206, VOCALS[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(VOCALS)}"


@pytest.mark.parametrize("range_header", ["bytes=70000-", "bytes=5-2", "bytes=a-b", "bytes=0-1,5-6", "songs=0-1"])
def test_other_ranges_cannot(done: Rest, range_header: str) -> None:
    answer = done.client.get(f"/apiv1/track/{JOB_ID}/vocals", headers={"Range": range_header})
    assert (answer.status_code, answer.json["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(VOCALS)}"


def test_a_stem_that_the_client_has_is_not_sent_again(done: Rest) -> None:
    etag = done.client.get(f"/apiv1/track/{JOB_ID}/vocals").headers["ETag"]
    answer = done.client.get(f"/apiv1/track/{JOB_ID}/vocals", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.data) == (304, b"")


def test_only_what_the_outcome_names_is_served(done: Rest) -> None:
    done.store.put(stem_object(JOB_ID, "vocals", "mp3"), b"a copy that somebody else wrote")
    assert done.client.get(f"/apiv1/track/{JOB_ID}/vocals").data == VOCALS


def test_a_stem_of_a_job_that_is_not_over_is_404(rest: Rest) -> None:
    rest.post_form(SONG)
    answer = rest.client.get(f"/apiv1/track/{JOB_ID}/vocals.mp3")
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_a_stem_of_an_unknown_job_is_404(rest: Rest) -> None:
    assert rest.client.get(f"/apiv1/track/{JOB_ID}/vocals.mp3").status_code == 404


def test_a_stem_that_the_model_lacks_is_400_and_one_that_it_has_is_404_until_it_is_there(rest: Rest) -> None:
    rest.post_form(SONG)
    assert rest.client.get(f"/apiv1/track/{JOB_ID}/piano").status_code == 400
    rest.queue.models.announce(
        type(DEMO_CARD)(DEMO_CARD.name, DEMO_CARD.weights_sha256, (*DEMO_CARD.sources, "piano"), 44_100)
    )
    assert rest.client.get(f"/apiv1/track/{JOB_ID}/piano").status_code == 404
    assert rest.client.get(f"/apiv1/track/{JOB_ID}/banana").status_code == 400


def test_the_instrumental_is_a_stem_like_any_other(rest: Rest) -> None:
    job_id = rest.post_form(SONG, stems="vocals,instrumental").json["hash"]
    assert rest.client.get(f"/apiv1/track/{job_id}/instrumental").status_code == 404
    rest.finish(job_id, {"vocals": b"voice", "instrumental": b"band"})
    assert f"output/{job_id}-instrumental.mp3" in rest.stored()
    assert list(rest.client.get(f"/apiv1/jobs/{job_id}").json["stems"]) == ["instrumental", "vocals"]
    assert rest.client.get(f"/apiv1/track/{job_id}/instrumental.mp3").data == b"band"
    assert rest.client.get(f"/apiv1/track?hash={job_id}&track=instrumental").data == b"band"
    assert rest.client.delete(f"/apiv1/remove/{job_id}/instrumental").status_code == 200
    assert rest.client.get(f"/apiv1/track/{job_id}/instrumental.mp3").status_code == 404
    assert f"output/{job_id}-instrumental.mp3" not in rest.stored()


@pytest.mark.parametrize("stem", ["instrumental", "no_vocals", "no_drums", "no_base"])
def test_an_instrumental_that_nobody_asked_for_is_404(stem: str, done: Rest) -> None:
    assert done.client.get(f"/apiv1/track/{JOB_ID}/{stem}").status_code == 404


def test_the_song_less_one_stem_is_found_by_both_of_its_names(rest: Rest) -> None:
    job_id = rest.post_form(SONG, stems="no_vocals,no_bass").json["hash"]
    rest.finish(job_id, {"instrumental": b"band", "no_bass": b"all but one"})
    assert rest.client.get(f"/apiv1/track/{job_id}/no_vocals.mp3").data == b"band"
    assert rest.client.get(f"/apiv1/track?hash={job_id}&track=instrumental").data == b"band"
    assert rest.client.get(f"/apiv1/track/{job_id}/no_base").data == b"all but one"
    assert rest.client.get(f"/apiv1/track/{job_id}/no_guitar").status_code == 400


def test_a_source_that_is_called_as_the_song_less_another_is_found(rest: Rest) -> None:
    job_id = rest.post_form(SONG, stems="vocals").json["hash"]
    rest.finish(job_id, {"vocals": b"voice", "no_vocals": b"band"})
    assert rest.client.get(f"/apiv1/track/{job_id}/no_vocals").data == b"band"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_stem_is_removed_alone(done: Rest, method: str) -> None:
    answer = done.client.open(f"/apiv1/remove/{JOB_ID}/vocals.mp3", method=method)
    assert (answer.status_code, answer.is_json) == (200, True)
    assert done.client.get(f"/apiv1/track/{JOB_ID}/vocals.mp3").status_code == 404
    assert done.client.get(f"/apiv1/track/{JOB_ID}/drums.mp3").status_code == 200
    assert f"output/{JOB_ID}-vocals.mp3" not in done.stored()
    assert done.client.open(f"/apiv1/remove/{JOB_ID}/vocals.mp3", method=method).status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_job_is_removed_with_all_that_it_has(done: Rest, method: str) -> None:
    answer = done.client.open(f"/apiv1/remove/{JOB_ID}", method=method)
    assert (answer.status_code, answer.json["hash"]) == (200, JOB_ID)
    assert done.stored() == []
    assert done.client.get(f"/apiv1/jobs/{JOB_ID}").status_code == 404
    assert done.client.open(f"/apiv1/remove/{JOB_ID}", method=method).status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_removed_can_be_named_in_the_query_as_old_clients_do(done: Rest, method: str) -> None:
    def remove(query: str) -> int:
        return done.client.open(f"/apiv1/remove?{query}", method=method).status_code

    assert remove(f"hash={JOB_ID}&track=vocals.mp3") == 200
    assert done.client.get(f"/apiv1/track/{JOB_ID}/vocals").status_code == 404
    assert remove(f"track={JOB_ID}-drums") == 200
    assert done.client.get(f"/apiv1/track/{JOB_ID}/drums").status_code == 404
    assert done.client.get(f"/apiv1/jobs/{JOB_ID}").status_code == 200
    assert [remove(query) for query in ("", "track=vocals", "hash=", "hash=../x")] == [400, 400, 400, 404]
    assert remove(f"file_id={JOB_ID}&component=banana") == 400
    assert remove(f"file_id={JOB_ID}") == 200
    assert done.stored() == []


def test_a_removed_job_waits_no_more_and_its_worker_has_lost_its_lease(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.client.get(f"/apiv1/remove/{JOB_ID}")
    assert rest.client.get("/apiv1/queue").json["total"] == 0
    assert rest.queue.views.record(JOB_ID) is None


def test_a_song_stays_while_another_job_needs_it(done: Rest) -> None:
    other = done.post_form(SONG, format="wav").json["hash"]
    done.client.get(f"/apiv1/remove/{JOB_ID}")
    assert f"queue/{JOB_ID}.mp3" in done.stored()
    done.client.get(f"/apiv1/remove/{other}")
    assert done.stored() == []


def test_an_element_that_another_producer_pushed_can_be_removed(rest: Rest, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("toWorker", JOB_ID)
    assert rest.client.get(f"/apiv1/remove/{JOB_ID}").status_code == 200
    assert rest.client.get("/apiv1/queue").json["total"] == 0


def test_nothing_is_removed_while_redis_is_away(own_redis: RedisServer, tmp_path: Path) -> None:
    rest = Rest(tmp_path, own_redis.url)
    rest.post_form(SONG)
    rest.finish(JOB_ID, STEMS)
    before = rest.stored()
    own_redis.kill()
    assert rest.client.get(f"/apiv1/remove/{JOB_ID}").status_code == 503
    assert rest.stored() == before


def test_a_song_that_a_broken_off_removal_left_is_removed_by_the_next(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.queue.forget(JOB_ID)
    rest.store.remove(request_object(JOB_ID))  # here REST was killed
    assert rest.client.delete(f"/apiv1/remove/{JOB_ID}").status_code == 200
    assert rest.stored() == []
    assert rest.client.delete(f"/apiv1/remove/{JOB_ID}").status_code == 404


def test_a_song_that_another_job_needs_is_not_taken_for_left_alone(rest: Rest) -> None:
    job_id = rest.post_form(SONG, stems="vocals").json["hash"]
    assert job_id != JOB_ID
    assert rest.client.delete(f"/apiv1/remove/{JOB_ID}").status_code == 404
    assert f"queue/{JOB_ID}.mp3" in rest.stored()


def test_a_removed_song_can_be_sent_again(done: Rest) -> None:
    done.client.get(f"/apiv1/remove/{JOB_ID}")
    assert done.post_form(SONG).json["status"] == "queued"
    assert done.client.get("/apiv1/queue").json["queue"] == [JOB_ID]


def test_a_song_whose_stem_was_removed_is_separated_anew(done: Rest) -> None:
    done.client.get(f"/apiv1/remove/{JOB_ID}/vocals")
    assert done.post_form(SONG).json["status"] == "queued"


def test_every_route_takes_the_id_of_a_job_with_options(rest: Rest) -> None:
    answer = rest.client.post(
        "/apiv1/separate", data={"mp3": (BytesIO(SONG), "a.mp3"), "format": "flac", "stems": "vocals"}
    )
    job_id = json.loads(answer.text)["hash"]
    assert "." in job_id
    rest.finish(job_id, {"vocals": b"voice"})
    assert rest.client.get(f"/apiv1/jobs/{job_id}").json["status"] == "done"
    assert rest.client.get(f"/apiv1/track/{job_id}/vocals").data == b"voice"
    assert rest.client.get(f"/apiv1/remove/{job_id}/vocals").status_code == 200
    assert rest.client.get(f"/apiv1/remove/{job_id}").status_code == 200


def test_whoever_stops_in_the_middle_of_a_download_keeps_nobody_from_going_on() -> None:
    for _ in range(20):
        pieces = iter(paced([b"one", b"two"], lambda most_bytes: None))
        assert next(pieces) == b"one"
        cast(Generator[bytes], pieces).close()
    assert list(paced([b"one", b"two"], lambda most_bytes: None)) == [b"one", b"two"]
