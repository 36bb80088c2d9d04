"""The client library: patient with a server that is away or busy, exact with what it fetches, light on memory."""

import hashlib
import json
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rest_server import RestServer
from rest_support import SONG, Rest
from support import eventually, free_port
from unmix.client import Client, Patience
from unmix.errors import AccessError, InputError, NotFoundError, UnmixError
from unmix.names import hash_song

JOB_ID = hash_song(SONG)
STEM = bytes(range(256)) * 1000
TAG = f'"{hashlib.sha256(STEM).hexdigest()}"'
JOB = json.dumps({"hash": JOB_ID, "songhash": JOB_ID, "status": "done"}).encode()

#: What a request is answered with: the status, headers, the body, and after how many bytes of it the line breaks.
Said = tuple[int, dict[str, str], bytes, int | None]


class Scripted:
    """A server that answers one request after the other as it is told; the last answer holds for all that follow."""

    def __init__(self, *answers: Said, port: int = 0) -> None:
        self.heads: list[dict[str, str]] = []
        self.paths: list[str] = []
        script, server = list(answers), self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body, breaks_after = script.pop(0) if len(script) > 1 else script[0]
                server.heads.append(dict(self.headers))
                server.paths.append(self.path)
                for _ in range(0, int(self.headers.get("Content-Length", 0)), 1 << 20):
                    self.rfile.read(1 << 20)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[:breaks_after])
                self.close_connection = True

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()  # ends at once

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


Serve = Callable[..., Scripted]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Scripted] = []

    def start(*answers: Said, port: int = 0) -> Scripted:
        servers.append(Scripted(*answers, port=port))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


class Time:
    """A clock that goes on only while somebody sleeps, and who was told that."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.said: list[str] = []

    def patience(self, seconds: float = 600) -> Patience:
        return Patience(seconds, lambda error, _: self.said.append(error.code), self.sleep, lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def refused(status: int, code: str, **headers: str) -> Said:
    return status, headers, json.dumps({"code": code, "detail": f"it is {code}"}).encode(), None


OK: Said = (200, {}, JOB, None)
WHOLE: Said = (200, {"ETag": TAG}, STEM, None)


def test_a_server_that_restarts_is_waited_for_with_growing_pauses(serve: Serve) -> None:
    port, time = free_port(), Time()

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if len(time.pauses) == 6:
            serve(OK, port=port)

    patience = Patience(600, lambda error, _: time.said.append(error.code), sleep, lambda: time.now)
    with Client(f"http://127.0.0.1:{port}", patience=patience) as client:
        assert client.job(JOB_ID).status == "done"
    assert time.pauses == [0.5, 1, 2, 4, 8, 10]
    assert time.said == ["rest_unavailable"] * 6


@pytest.mark.parametrize(("status", "code"), [(429, "too_many_requests"), (503, "queue_unavailable"), (503, "no_room")])
def test_a_busy_server_is_asked_again_when_it_says(serve: Serve, status: int, code: str) -> None:
    server, time = serve(refused(status, code, **{"Retry-After": "7"}), refused(status, code), OK), Time()
    with Client(server.url, patience=time.patience()) as client:
        client.job(JOB_ID)
    assert time.pauses == [7, 1]
    assert time.said == [code, code]


def test_patience_ends_with_the_error_itself(serve: Serve) -> None:
    time = Time()
    client = Client(serve(refused(503, "queue_unavailable")).url, patience=time.patience(20))
    with client, pytest.raises(UnmixError, match="it is queue_unavailable") as caught:
        client.job(JOB_ID)
    assert caught.value.code == "queue_unavailable"
    assert sum(time.pauses) <= 20
    client = Client(f"127.0.0.1:{free_port()}", patience=Time().patience(0))
    with client, pytest.raises(UnmixError) as caught:
        client.job(JOB_ID)
    assert caught.value.code == "rest_unavailable"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "key_required", AccessError),
        (404, "not_found", NotFoundError),
        (415, "not_audio", InputError),
        (500, "internal_error", UnmixError),
        (503, "store_denied", UnmixError),  # only an operator makes that pass
        (507, "store_full", UnmixError),
    ],
)
def test_what_does_not_pass_is_told_at_once_in_the_servers_words(
    serve: Serve, status: int, code: str, kind: type[UnmixError]
) -> None:
    server, time = serve(refused(status, code)), Time()
    with Client(server.url, patience=time.patience()) as client, pytest.raises(kind, match=f"it is {code}") as caught:
        client.job(JOB_ID)
    assert caught.value.code == code
    assert time.pauses == []


def test_a_page_of_somebody_else_is_no_answer(serve: Serve) -> None:
    for body in (b"<html>", b"[]", b'{"hash": 5}'):
        with Client(serve((200, {}, body, None)).url) as client, pytest.raises(UnmixError) as caught:
            client.job(JOB_ID)
        assert caught.value.code == "bad_answer"


@pytest.mark.parametrize("end", ["", "/", "/apiv1", "/apiv1/"])
def test_the_address_of_the_api_will_do_too_and_its_key_is_said_and_not_shown(serve: Serve, end: str) -> None:
    server = serve(OK)
    with Client(server.url.replace("//", "//secret@") + end) as client:
        client.job(JOB_ID)
        assert client.url == server.url
    assert server.paths == [f"/apiv1/jobs/{JOB_ID}"]
    assert server.heads[0]["Authorization"] == "Bearer secret"


def test_a_song_is_sent_again_from_its_beginning_and_is_one_job(
    rest: Rest, rest_server: RestServer, tmp_path: Path
) -> None:
    song = tmp_path / "My song.wav"
    song.write_bytes(SONG)
    with Client(rest_server.url) as client:
        first = client.submit(song, stems=["vocals"], format="flac", bits=24, labels=["a", "b"], batch="x")
        assert client.submit(song, stems=["vocals"], format="flac", bits=24) == first
        (job,) = client.jobs()
    assert (job.hash, job.name, job.labels, job.batches) == (first, "My song.wav", ("a", "b"), ("x",))
    assert rest.queue.views.waiting(limit=9)[0] == [first]


def test_jobs_of_all_pages_are_listed_and_found(rest: Rest, rest_server: RestServer, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    song.write_bytes(SONG)
    with Client(rest_server.url) as client:
        sent = [client.submit(song, format="wav", start=number / 100) for number in range(53)]  # a page has 50
        assert [job.hash for job in client.jobs()] == sent[::-1]
        assert [job.hash for job in client.jobs(status="done")] == []
        assert client.queue().total == 53


def test_the_end_of_a_job_is_waited_for(rest: Rest, rest_server: RestServer) -> None:
    rest.post_form(SONG)
    with Client(rest_server.url) as client:
        ending = threading.Timer(0.2, rest.finish, (JOB_ID, {"vocals": b"voice"}))
        ending.start()
        assert client.wait(JOB_ID).status == "done"
        ending.join()
        assert [view.status for view in client.watch(JOB_ID)] == ["done"]


def test_a_download_that_breaks_off_goes_on_where_it_was(serve: Serve, tmp_path: Path) -> None:
    there = 1 << 16  # of what came, the pieces that were whole
    rest = {"ETag": TAG, "Content-Range": f"bytes {there}-{len(STEM) - 1}/{len(STEM)}"}
    server, time = serve((200, {"ETag": TAG}, STEM, 100_000), (206, rest, STEM[there:], None)), Time()
    with Client(server.url, patience=time.patience()) as client:
        target = client.download(JOB_ID, "vocals", tmp_path / "new" / "vocals.mp3")
    assert target.read_bytes() == STEM
    assert (server.heads[1]["Range"], server.heads[1]["If-Range"]) == (f"bytes={there}-", TAG)
    assert list(target.parent.iterdir()) == [target]


def test_a_stem_that_was_replaced_meanwhile_comes_whole(serve: Serve, tmp_path: Path) -> None:
    server, time = serve((200, {"ETag": '"old"'}, b"o" * len(STEM), 100_000), WHOLE), Time()
    with Client(server.url, patience=time.patience()) as client:
        assert client.download(JOB_ID, "vocals", tmp_path / "vocals.mp3").read_bytes() == STEM


def test_a_damaged_download_is_fetched_once_more(serve: Serve, tmp_path: Path) -> None:
    damaged = (200, {"ETag": TAG}, STEM[:-1] + b"x", None)
    with Client(serve(damaged, WHOLE).url) as client:
        assert client.download(JOB_ID, "vocals", tmp_path / "vocals.mp3").read_bytes() == STEM
    (tmp_path / "vocals.mp3").write_text("what was there")
    with Client(serve(damaged).url) as client, pytest.raises(UnmixError) as caught:
        client.download(JOB_ID, "vocals", tmp_path / "vocals.mp3")
    assert caught.value.code == "damaged_download"
    assert (tmp_path / "vocals.mp3").read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [tmp_path / "vocals.mp3"]


def test_stems_of_the_real_service_are_resumed_and_checked(rest: Rest, rest_server: RestServer, tmp_path: Path) -> None:
    """Whether REST gives what the client relies on: ranges, `If-Range`, and the SHA-256 as `ETag`."""
    rest.post_form(SONG)
    rest.finish(JOB_ID, {"vocals": STEM})
    with Client(rest_server.url) as client:
        assert client.download(JOB_ID, "vocals", tmp_path / "vocals.mp3").read_bytes() == STEM
        part = client._connection.ask(
            "GET", f"apiv1/track/{JOB_ID}/vocals", headers={"Range": "bytes=1000-", "If-Range": TAG}
        )
        assert (part.status_code, part.content, part.headers["ETag"]) == (206, STEM[1000:], TAG)


UPLOAD = """
import resource, sys
from pathlib import Path
from unmix.client import Client
def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with Client(sys.argv[1]) as client:
    client.job("0" * 64)
    before = peak_mb()
    client.submit(Path(sys.argv[2]))
print(peak_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what is measured has another unit elsewhere")
def test_a_large_song_is_not_held_in_memory_while_it_is_sent(serve: Serve, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    with song.open("wb") as file:
        file.truncate(265 << 20)
    server = serve(OK)
    done = subprocess.run([sys.executable, "-c", UPLOAD, server.url, song], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert server.heads[1]["Content-Length"] == str(265 << 20)
    assert float(done.stdout) < 20


def examples(url: str) -> list[str]:
    """Return the programs in the page of the client."""
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text().replace("http://localhost:5000", url)
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", page, re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks if "import" in block]


def test_the_example_of_the_page_does_what_it_says(rest: Rest, rest_server: RestServer, tmp_path: Path) -> None:
    program, *_ = examples(rest_server.url)
    (tmp_path / "song.mp3").write_bytes(SONG)
    running = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    eventually(lambda: rest.finish_next({"vocals": STEM, "instrumental": STEM[::-1]}), "the example has sent its song")
    told, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert (tmp_path / "stems" / "vocals.flac").read_bytes() == STEM
    assert (tmp_path / "stems" / "instrumental.flac").read_bytes() == STEM[::-1]
    assert "stems/vocals.flac" in told


def test_the_example_of_patience_waits_and_tells_why(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("unmix.client.patience.FIRST_PAUSE_SECONDS", 0.01)
    _, program = examples(serve(refused(503, "queue_unavailable"), OK).url)
    made: dict[str, Any] = {}
    exec(program, made)
    assert made["client"].job(JOB_ID).hash == JOB_ID
    assert "it is queue_unavailable" in capsys.readouterr().out
