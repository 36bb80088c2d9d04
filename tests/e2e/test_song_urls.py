"""Songs that are given by their URLs, through the whole service: the worker fetches them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from stack import Stack, running
from support import SongServer, make_song
from unmix import names

ON = {"UNMIX_SONG_URLS": "true", "UNMIX_SONG_URL_ALLOW": "127.0.0.1", "UNMIX_MAX_ATTEMPTS": "3"}
STEMS = {"vocals", "drums", "bass", "other"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that fetches songs."""
    with running(tmp_path_factory.mktemp("service"), **ON) as service:
        yield service


def send(service: Stack, url: str, **fields: Any) -> str:
    answer = requests.post(f"{service.url}/apiv1/jobs", json={"url": url, **fields}, timeout=30)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["hash"])


def test_a_song_elsewhere_comes_back_as_the_stems_that_it_would_have_if_it_were_sent(service: Stack) -> None:
    song = make_song(4, seed=71)
    with SongServer({"/song.mp3": song}) as elsewhere:
        job_id = send(service, f"{elsewhere.url}/song.mp3", format="wav")
        job = service.wait_until_over(job_id)
        assert (job["status"], job["name"], set(job["stems"])) == ("done", "song.mp3", STEMS)
        assert abs(job["duration_seconds"] - 4) < 0.1
        sent = service.post(song, format="wav")
        assert service.wait_until_over(sent)["status"] == "done"
        for stem in STEMS:
            assert service.stem(job_id, stem) == service.stem(sent, stem)
        assert elsewhere.asked == ["/song.mp3"]
    # It is stored as any song, and goes with its job.
    assert service.objects.get(names.song_object(names.song_hash_of(job_id)))[0] == song
    service.remove(job_id)
    assert service.objects.stat(names.song_object(names.song_hash_of(job_id))) is None


def test_what_is_no_song_or_not_there_ends_the_job_and_the_next_one_is_served(service: Stack) -> None:
    answers: dict[str, bytes | int] = {
        "/page": b"<html>no song</html>",
        "/busy": 503,
        "/short": make_song(0.05, seed=75),
        "/song.mp3": make_song(2, seed=72),
    }
    with SongServer(answers) as elsewhere:
        ends = {
            path: service.wait_until_over(send(service, elsewhere.url + path))
            for path in ("/page", "/missing", "/busy", "/short", "/song.mp3")
        }
        assert {path: (job["status"], job["error_code"]) for path, job in ends.items()} == {
            "/page": ("failed", "not_audio"),
            "/missing": ("failed", "song_url_failed"),
            "/busy": ("failed", "gave_up"),
            "/short": ("failed", "too_short"),
            "/song.mp3": ("done", None),
        }
        assert "404" in ends["/missing"]["error"]
        assert "503" in ends["/busy"]["error"]
        assert [elsewhere.asked.count(path) for path in ("/missing", "/busy")] == [1, 3]

        elsewhere.answers["/busy"] = make_song(2, seed=73)
        retried = ends["/busy"]["hash"]
        assert requests.post(f"{service.url}/apiv1/jobs/{retried}/retry", timeout=30).status_code == 200
        assert service.wait_until_over(retried)["status"] == "done"


def test_a_job_is_not_fetched_for_by_a_worker_that_may_not(make_stack: Callable[..., Stack]) -> None:
    """REST and workers have settings of their own; whoever fetches decides."""
    service = make_stack(**ON).start(workers=0)
    with SongServer({"/song.mp3": make_song(2, seed=74)}) as elsewhere:
        job_id = send(service, f"{elsewhere.url}/song.mp3")
        service.settings["UNMIX_SONG_URL_ALLOW"] = ""
        service.start_worker()
        job = service.wait_until_over(job_id)
        assert (job["status"], job["error_code"]) == ("failed", "song_url_forbidden")
        assert elsewhere.asked == []
