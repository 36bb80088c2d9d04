"""`/apiv1/jobs/<job_id>/stems.zip`: all stems of a job as one download."""

from io import BytesIO
from zipfile import ZIP_STORED, ZipFile

import pytest
import zipstream.ng

from rest_support import SONG, Answer, Rest
from unmix.names import hash_song
from unmix.outcome import StemFile
from unmix_rest.http import archives
from unmix_rest.http.lanes import MAY_STAY, WAIT_TO_SEND

JOB_ID = hash_song(SONG)
URL = f"/apiv1/jobs/{JOB_ID}/stems.zip"
STEMS = {name: f"{name} ".encode() * 50_000 for name in ("vocals", "drums", "bass", "other")}


@pytest.fixture
def done(rest: Rest) -> Rest:
    """A service with one song that is done."""
    rest.client.post("/apiv1/jobs", data=SONG, content_type="audio/mpeg", query_string={"name": "Fußgänger.mp3"})
    rest.finish(JOB_ID, STEMS)
    return rest


def contents(answer: Answer) -> dict[str, bytes]:
    """What is in an archive, read by names, and every checksum verified."""
    with ZipFile(BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {ZIP_STORED}
        return {name: archive.read(name) for name in archive.namelist()}


def test_all_stems_come_as_one_file_under_the_name_of_the_song(done: Rest) -> None:
    answer = done.client.get(URL)
    assert (answer.status_code, answer.content_type) == (200, "application/zip")
    assert "filename*=UTF-8''Fu%C3%9Fg%C3%A4nger%20-%20stems.zip" in answer.headers["Content-Disposition"]
    assert contents(answer) == {f"Fußgänger - {stem}.mp3": data for stem, data in STEMS.items()}


def test_the_length_is_told_before_and_is_right(done: Rest) -> None:
    told = done.client.head(URL)
    assert (told.status_code, told.data) == (200, b"")
    assert int(told.headers["Content-Length"]) == len(done.client.get(URL).data) > sum(map(len, STEMS.values()))


def test_a_job_without_a_name_has_stems_called_by_their_kind(rest: Rest) -> None:
    job_id = rest.client.post("/apiv1/jobs?format=flac", data=SONG, content_type="audio/mpeg").json["hash"]
    rest.finish(job_id, {"vocals": b"voice"})
    answer = rest.client.get(f"/apiv1/jobs/{job_id}/stems.zip")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="stems.zip"'
    assert contents(answer) == {"vocals.flac": b"voice"}


def test_a_stem_that_was_removed_is_left_out(done: Rest) -> None:
    before = done.client.get(URL).headers["ETag"]
    done.client.delete(f"/apiv1/remove/{JOB_ID}/drums")
    answer = done.client.get(URL)
    assert sorted(contents(answer)) == [f"Fußgänger - {stem}.mp3" for stem in ("bass", "other", "vocals")]
    assert answer.headers["ETag"] != before


def test_what_the_client_has_is_not_sent_again(done: Rest) -> None:
    etag = done.client.get(URL).headers["ETag"]
    answer = done.client.get(URL, headers={"If-None-Match": etag})
    assert (answer.status_code, answer.data) == (304, b"")


def test_there_are_no_ranges_of_it_and_who_asks_for_one_gets_all(done: Rest) -> None:
    answer = done.client.get(URL, headers={"Range": "bytes=5-"})
    assert (answer.status_code, answer.headers["Accept-Ranges"]) == (200, "none")
    assert len(contents(answer)) == 4


def test_there_is_none_of_a_job_that_is_not_done(rest: Rest) -> None:
    assert rest.client.get(URL).status_code == 404
    assert rest.client.get("/apiv1/jobs/..%2f..%2fetc/stems.zip").status_code == 404
    rest.post_form(SONG)
    answer = rest.client.get(URL)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert "not over yet" in answer.json["detail"]
    rest.client.post(f"/apiv1/jobs/{JOB_ID}/cancel")
    assert "cancelled" in rest.client.get(URL).json["detail"]


def test_there_is_none_when_all_stems_were_removed(done: Rest) -> None:
    for stem in STEMS:
        done.client.delete(f"/apiv1/remove/{JOB_ID}/{stem}")
    assert done.client.get(URL).status_code == 404


def test_without_room_it_is_refused_and_says_when_to_come_back(done: Rest) -> None:
    answer = done.client.get(URL, environ_overrides={MAY_STAY: False})
    assert (answer.status_code, answer.json["code"]) == (503, "too_many_downloads")
    assert answer.headers["Retry-After"]


def test_a_stem_that_goes_while_it_is_sent_ends_the_answer_before_its_length(done: Rest) -> None:
    begun = done.client.open(URL, buffered=False)
    done.client.delete(f"/apiv1/jobs/{JOB_ID}")
    assert len(b"".join(begun.iter_encoded())) < int(begun.headers["Content-Length"])
    begun.close()


def test_no_more_is_made_than_the_client_takes(done: Rest) -> None:
    asked: list[int] = []
    begun = done.client.open(URL, buffered=False, environ_overrides={WAIT_TO_SEND: asked.append})
    pieces = [len(piece) for piece in begun.iter_encoded()]
    begun.close()
    assert len(asked) == len(pieces)  # it has to wait before each
    assert max(pieces) + max(asked) < 1 << 20  # beyond that waitress takes to the disk


@pytest.mark.parametrize("limit", [1, 10_000, 120_000, 10_000_000])
def test_large_files_and_large_archives_are_what_their_length_says(
    rest: Rest, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """What holds beyond two and four gigabytes, tried with another limit."""
    monkeypatch.setattr(zipstream.ng, "ZIP64_LIMIT", limit)
    files = {f"{size}.wav": StemFile(str(size), size, hash_song(bytes(size))) for size in (5, 9_700, 50_000, 70_000)}
    with rest.client.application.test_request_context():
        answer = archives.archive(files, lambda file: BytesIO(bytes(file.size_bytes)), name="stems.zip")
        data = b"".join(answer.iter_encoded())
    assert len(data) == answer.content_length
    with ZipFile(BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {entry.filename: entry.file_size for entry in archive.infolist()} == {
            name: file.size_bytes for name, file in files.items()
        }


def test_the_length_of_stems_beyond_four_gigabytes_is_told(rest: Rest) -> None:
    files = {f"{number}.wav": StemFile(str(number), 5 << 30, "ab" * 32) for number in range(4)}
    with rest.client.application.test_request_context():
        length = archives.archive(files, lambda file: BytesIO(), name="stems.zip").content_length
    assert length is not None
    assert 0 < length - 4 * (5 << 30) < 2000
