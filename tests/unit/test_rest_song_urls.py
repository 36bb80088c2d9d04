"""A song that is given by its URL, as REST takes it: nothing is fetched here."""

import base64
from pathlib import Path
from typing import Any

import pytest

from rest_support import SONG, Answer, Rest

URL = "https://songs.example.com/a%20b/My%20S%C3%B6ng.mp3?signature=secret#x"


@pytest.fixture
def fetching(tmp_path: Path, redis_url: str) -> Rest:
    return Rest(tmp_path, redis_url, song_urls=True, song_url_allow="10.0.0.0/8")


def send(rest: Rest, url: Any = URL, **fields: Any) -> Answer:
    return rest.client.post("/apiv1/jobs", json={"url": url, **fields})


def test_a_service_that_fetches_no_songs_says_so(rest: Rest) -> None:
    answer = send(rest)
    assert (answer.status_code, answer.json["code"]) == (403, "song_urls_off")
    assert rest.stored() == []
    assert rest.client.get("/apiv1/models").json["song_urls"] is False


def test_a_job_is_made_of_a_url_and_named_after_it(fetching: Rest) -> None:
    answer = send(fetching, labels=["choir"], format="flac")
    assert answer.status_code == 202, answer.json
    job = answer.json
    assert (job["status"], job["position"], job["name"]) == ("queued", 1, "My Söng.mp3")
    assert (job["labels"], job["options"]["format"], job["duration_seconds"]) == (["choir"], "flac", None)
    assert fetching.client.get(answer.headers["Location"]).json == job
    assert fetching.client.get("/apiv1/jobs").json["jobs"][0]["name"] == "My Söng.mp3"
    assert fetching.stored() == [f"queue/{job['hash']}.json"]
    assert fetching.client.get("/apiv1/models").json["song_urls"] is True


def test_what_is_told_of_a_job_has_nothing_of_the_url(fetching: Rest) -> None:
    job_id = send(fetching).json["hash"]
    for path in (f"/apiv1/jobs/{job_id}", "/apiv1/jobs", "/apiv1/queue"):
        text = fetching.client.get(path).text
        assert "secret" not in text
        assert "songs.example.com" not in text


def test_a_name_that_is_given_counts(fetching: Rest) -> None:
    assert send(fetching, name="Mine").json["name"] == "Mine"
    assert send(fetching, "https://example.com").json["name"] is None


def test_what_lies_at_a_url_may_change_so_each_is_a_job_of_its_own(fetching: Rest) -> None:
    assert send(fetching).json["hash"] != send(fetching).json["hash"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://169.254.169.254/latest", "song_url_forbidden"),
        ("http://localhost:6379/", "song_url_forbidden"),
        ("http://redis:6379/", "song_url_forbidden"),
        ("http://user:word@example.com/song.mp3", "song_url_forbidden"),
        ("https://example.com/" + 3000 * "a", "song_url_forbidden"),
        ("", "song_url_forbidden"),
        ("file:///etc/passwd", "song_url_scheme"),
        ("gopher:x", "song_url_scheme"),
        (7, "invalid_field"),
        (["https://example.com/"], "invalid_field"),
        (None, "missing_field"),
    ],
)
def test_a_url_that_may_not_be_fetched_is_refused_at_once(fetching: Rest, url: Any, code: str) -> None:
    answer = send(fetching, url)
    assert (answer.status_code, answer.json["code"]) == (422, code)
    assert fetching.stored() == []


def test_an_operator_may_name_private_places(fetching: Rest) -> None:
    assert send(fetching, "http://10.1.2.3/song.mp3").status_code == 202


@pytest.mark.parametrize("besides", [{"file": base64.b64encode(SONG).decode()}, {"upload": f"{10 * '1'}-{32 * 'a'}"}])
def test_a_song_is_given_in_one_way(fetching: Rest, besides: dict[str, str]) -> None:
    answer = send(fetching, **besides)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_field")
    assert fetching.stored() == []


def test_whoever_gives_no_song_is_told_of_all_ways_to_give_one(fetching: Rest) -> None:
    assert send(fetching, None).json["detail"] == "the field file or upload or url is missing"
    form = fetching.client.post("/apiv1/jobs", data={"url": URL}, content_type="multipart/form-data")
    assert (form.status_code, form.json["code"]) == (422, "missing_field")
    assert "JSON" in form.json["detail"]


def test_older_clients_routes_know_nothing_of_it(fetching: Rest) -> None:
    answer = fetching.client.post("/apiv1/separate", json={"url": URL})
    assert (answer.status_code, answer.json["code"]) == (400, "missing_field")
