"""Parts of songs and peaks of jobs, as a client gets them: while the song is separated, and after."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from rest_support import SONG, Rest
from unmix.audio.peaks import of_song
from unmix.job import JobRequest
from unmix.names import hash_song
from unmix.outcome import Ran, RanParts, SongPart, StemFile
from unmix.queue.records import Claim
from unmix.queue.runs import PartsOfJob

JOB_ID = hash_song(SONG)
KIND = "exact-1"
STEMS = ("vocals", "drums")
COUNT, LENGTH = 3, 1000


class Maker:
    """A worker that has claimed the job and puts parts of it."""

    def __init__(self, rest: Rest, folder: Path) -> None:
        rest.post_form(SONG)
        claim = rest.queue.claim(str(rest.queue.take(block_seconds=1)), JOB_ID, "worker-1")
        request = rest.ledger.request(JOB_ID)
        assert claim is not None
        assert request is not None
        self.claim: Claim = claim
        self.request: JobRequest = request
        self._rest = rest
        self._folder = folder
        level = {"samples": COUNT * LENGTH, "mean": 0.0, "std": 1.0, "measured_by": "ab"}
        self._asked = PartsOfJob(JOB_ID, request.generation, KIND, COUNT, LENGTH, level)
        rest.queue.runs.ask_help(claim, self._asked, there=())

    def put(self, index: int) -> SongPart:
        files = {}
        for stem in STEMS:
            files[stem] = self._folder / stem
            files[stem].write_bytes(data_of(index, stem))
        made = SongPart(index, index * LENGTH, LENGTH, {}, "worker-1", {}, {stem: [-index, index] for stem in STEMS})
        part = self._rest.ledger.parts(self.request, KIND).put(made, files, token="t")
        self._rest.queue.runs.note_there(self._asked, index)
        return part

    def end(self, *, peaks: bytes | None = None) -> None:
        """Finish the job as a worker would."""
        rest, claim = self._rest, self.claim
        ran = Ran("demo", "ab" * 32, "cpu", 44_100, 2.0, 0.5, parts=RanParts(KIND, COUNT, LENGTH, {"worker-1": COUNT}))
        file = rest.ledger.put_peaks(JOB_ID, claim.token, peaks) if peaks else None
        rest.queue.release(claim)
        rest.finish(JOB_ID, dict.fromkeys(STEMS, b"stem"), ran=ran, peaks=file)


@pytest.fixture
def maker(rest: Rest, tmp_path: Path) -> Maker:
    return Maker(rest, tmp_path)


def data_of(index: int, stem: str) -> bytes:
    return f"{stem} {index} ".encode() * 100


def job(rest: Rest) -> Any:
    return rest.client.get(f"/apiv1/jobs/{JOB_ID}").json


def parts(rest: Rest, query: str = "") -> Any:
    return rest.client.get(f"/apiv1/jobs/{JOB_ID}/parts{query}").json


def test_a_job_names_its_parts_as_they_come(rest: Rest, maker: Maker) -> None:
    assert job(rest)["parts"] == {"count": COUNT, "there": 0, "url": f"/apiv1/jobs/{JOB_ID}/parts"}
    assert parts(rest)["parts"] == []
    maker.put(2)
    maker.put(0)
    assert job(rest)["parts"]["there"] == 2
    listed = parts(rest)
    assert {name: listed[name] for name in ("count", "length", "sample_rate", "samples_per_pixel")} == {
        "count": COUNT,
        "length": LENGTH,
        "sample_rate": 44_100,
        "samples_per_pixel": 4410,
    }
    assert [(part["index"], part["start"], part["samples"]) for part in listed["parts"]] == [
        (0, 0, 1000),
        (2, 2000, 1000),
    ]
    assert listed["parts"][1]["stems"]["drums"]["peaks"] == [-2, 2]


def test_parts_can_be_asked_for_from_one_on(rest: Rest, maker: Maker) -> None:
    for index in range(COUNT):
        maker.put(index)
    assert [part["index"] for part in parts(rest, "?offset=1")["parts"]] == [1, 2]
    assert [part["index"] for part in parts(rest, "?offset=1&limit=1")["parts"]] == [1]
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}/parts?offset=-1").status_code == 400


def test_a_part_can_be_heard_at_once_and_kept_for_ever_under_its_own_url(rest: Rest, maker: Maker) -> None:
    maker.put(0)
    stem = parts(rest)["parts"][0]["stems"]["vocals"]
    answer = rest.client.get(stem["url"])
    assert (answer.status_code, answer.data) == (200, data_of(0, "vocals"))
    assert answer.content_type == "audio/flac"
    assert answer.headers["ETag"] == f'"{stem["sha256"]}"'
    assert "immutable" in answer.headers["Cache-Control"]
    assert rest.client.get(stem["url"], headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    ranged = rest.client.get(stem["url"], headers={"Range": "bytes=3-5"})
    assert (ranged.status_code, ranged.data) == (206, data_of(0, "vocals")[3:6])


@pytest.mark.parametrize("path", ["parts/0/vocals", "parts/0/vocals.flac"])
def test_a_url_that_may_come_to_mean_another_part_is_asked_for_again(rest: Rest, maker: Maker, path: str) -> None:
    maker.put(0)
    answer = rest.client.get(f"/apiv1/jobs/{JOB_ID}/{path}")
    assert answer.data == data_of(0, "vocals")
    assert "immutable" not in answer.headers.get("Cache-Control", "")


@pytest.mark.parametrize(
    "path", ["parts/1/vocals", "parts/0/bass", "parts/0/vocals.mp3", "parts/99999999999999/vocals", "parts/x/vocals",
             "parts/-1/vocals", "parts/0/..%2Fvocals", "peaks"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(rest: Rest, maker: Maker, path: str) -> None:
    maker.put(0)
    answer = rest.client.get(f"/apiv1/jobs/{JOB_ID}/{path}")
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_the_url_of_other_bytes_is_not_found(rest: Rest, maker: Maker) -> None:
    maker.put(0)
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}/parts/0/vocals?sha256=0123456789abcdef").status_code == 404


def test_a_stem_that_was_removed_cannot_be_heard_in_parts_either(rest: Rest, maker: Maker) -> None:
    for index in range(COUNT):
        maker.put(index)
    maker.end()
    rest.client.delete(f"/apiv1/remove/{JOB_ID}/vocals")
    assert [list(part["stems"]) for part in parts(rest)["parts"]] == [["drums"]] * COUNT
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}/parts/0/vocals").status_code == 404
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}/parts/0/drums").status_code == 200


@pytest.mark.parametrize("fields", [{"foo": "there"}, {"parts": "1e3"}, {"level": "{"}, None], ids=str)
def test_whatever_redis_holds_of_runs_a_job_can_be_asked_for(
    rest: Rest, maker: Maker, redis_url: str, fields: dict[str, str] | None
) -> None:
    with redis.Redis.from_url(redis_url) as client:
        if fields:
            client.hset(f"unmix:runs:{JOB_ID}", mapping=fields)
        else:
            client.set(f"unmix:runs:{JOB_ID}", "a string")
    assert job(rest)["status"] == "running"
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}/parts").status_code == (200 if fields else 503)


def test_parts_of_an_earlier_submission_are_not_told(rest: Rest, maker: Maker) -> None:
    maker.put(0)
    maker.end()
    rest.client.delete(f"/apiv1/remove/{JOB_ID}")
    rest.post_form(SONG)
    assert job(rest)["parts"] is None
    assert parts(rest)["parts"] == []


def test_parts_of_a_done_job_are_there_until_they_are_removed(rest: Rest, maker: Maker) -> None:
    for index in range(COUNT):
        maker.put(index)
    maker.end()
    assert job(rest)["status"] == "done"
    assert job(rest)["parts"]["there"] == COUNT
    url = parts(rest)["parts"][2]["stems"]["drums"]["url"]
    assert rest.client.get(url).data == data_of(2, "drums")
    assert job(rest)["ran"]["parts"] == {
        "kind": KIND, "count": COUNT, "length": LENGTH, "made": {"worker-1": COUNT}, "found": 0, "again": 0,
    }  # fmt: skip
    rest.ledger.removal.remove_parts(rest.ledger.inventory.song(JOB_ID).job(JOB_ID))
    assert job(rest)["parts"] is None
    assert parts(rest)["parts"] == []
    assert rest.client.get(url).status_code == 404


def test_a_song_that_was_separated_as_a_whole_has_no_parts(rest: Rest) -> None:
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": b"voice"})
    assert (job(rest)["parts"], job(rest)["peaks"]) == (None, None)
    assert parts(rest) == {
        "hash": JOB_ID, "count": 0, "length": 0, "sample_rate": 44_100, "samples_per_pixel": 4410, "parts": [],
    }  # fmt: skip


def test_nothing_is_known_of_a_job_that_there_is_not(rest: Rest) -> None:
    for path in ("parts", "parts/0/vocals", "peaks"):
        assert rest.client.get(f"/apiv1/jobs/{JOB_ID}/{path}").status_code == 404
        assert rest.client.get(f"/apiv1/jobs/nonsense/{path}").status_code == 404


def test_peaks_of_a_done_job_are_one_small_file_and_go_with_it(rest: Rest, maker: Maker) -> None:
    data = json.dumps(of_song({"vocals": [-3, 4]})).encode()
    maker.end(peaks=data)
    url = job(rest)["peaks"]
    answer = rest.client.get(url)
    assert (answer.data, answer.content_type) == (data, "application/json")
    assert answer.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    assert "immutable" in answer.headers["Cache-Control"]
    assert rest.client.get(f"/apiv1/jobs/{JOB_ID}/peaks").json == json.loads(data)
    rest.client.delete(f"/apiv1/remove/{JOB_ID}")
    assert rest.client.get(url).status_code == 404
    assert rest.stored() == []


def test_without_redis_parts_of_a_done_job_can_be_heard(rest: Rest, maker: Maker) -> None:
    part = maker.put(0)
    maker.end()
    rest.queue.runs.known = None  # type: ignore[assignment, method-assign]  # nobody asks
    stem: StemFile = part.stems["vocals"]
    listed = parts(rest)["parts"][0]["stems"]["vocals"]
    assert listed["sha256"] == stem.sha256
    assert rest.client.get(listed["url"]).data == data_of(0, "vocals")
