"""The fetching of a song by its URL: against real servers on this machine, good ones and hostile ones."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import free_port, raw_server
from unmix.errors import EngineError
from unmix.outbound import address, call, song
from unmix.outbound.address import Guard
from unmix.outbound.song import SongLimits, fetch_song_url

HERE = "127.0.0.1"
SONG = bytes(range(256)) * 1000


@contextmanager
def server(answer: Callable[[socket.socket, str], object]) -> Iterator[str]:
    """Answer each connection by `answer`, which gets the socket and the path that was asked for; yields the URL."""
    with raw_server(lambda peer, request: answer(peer, request.split()[1].decode())) as (port, _):
        yield f"http://{HERE}:{port}"


def says(status: str, body: bytes = b"", **headers: str) -> Callable[[socket.socket, str], object]:
    """Return an answer; each `_` in the name of a header stands for a hyphen."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    if "Transfer_Encoding" not in headers and "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(body)}\r\n")
    head = f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode()
    return lambda peer, path: peer.sendall(head + body)


def fetch(url: str, folder: Path, **changes: Any) -> bytes:
    asked: dict[str, Any] = {
        "guard": Guard("song_url", HERE),
        "limits": SongLimits(size_bytes=1 << 20, seconds=30),
        "go_on": lambda: None,
        **changes,
    }
    fetch_song_url(url, folder / "song", **asked)
    return (folder / "song").read_bytes()


def test_a_song_comes_whole(tmp_path: Path) -> None:
    with server(says("200 OK", SONG)) as url:
        assert fetch(f"{url}/song.mp3?signature=1", tmp_path) == SONG


def test_a_song_in_chunks_comes_whole(tmp_path: Path) -> None:
    body = b"3e8\r\n" + SONG[:1000] + b"\r\n3e8\r\n" + SONG[1000:2000] + b"\r\n0\r\n\r\n"
    with server(says("200 OK", body, Transfer_Encoding="chunked")) as url:
        assert fetch(url, tmp_path) == SONG[:2000]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(tmp_path: Path, status: int) -> None:
    def answer(peer: socket.socket, path: str) -> None:
        if path == "/there":
            says("200 OK", SONG)(peer, path)
        else:
            says(f"{status} Over there", Location="/there")(peer, path)

    with server(answer) as url:
        assert fetch(f"{url}/here", tmp_path) == SONG


def test_redirects_without_an_end_are_not_followed_for_ever(tmp_path: Path) -> None:
    asked = []

    def answer(peer: socket.socket, path: str) -> None:
        asked.append(path)
        says("302 Found", Location="/again")(peer, path)

    with server(answer) as url, pytest.raises(EngineError) as caught:
        fetch(url, tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("song_url_failed", False)
    assert len(asked) == song.MOST_REDIRECTS + 1


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://169.254.169.254/latest/meta-data/", "song_url_forbidden"),
        ("http://localhost:6379/", "song_url_forbidden"),
        ("//10.0.0.1/song.mp3", "song_url_forbidden"),
        ("file:///etc/passwd", "song_url_scheme"),
        ("http://user:word@example.com/", "song_url_forbidden"),
        ("http://[::1", "song_url_failed"),
        ("", "song_url_failed"),
    ],
)
def test_a_redirect_does_not_lead_past_the_guard(tmp_path: Path, location: str, code: str) -> None:
    with server(says("302 Found", Location=location)) as url, pytest.raises(EngineError) as caught:
        fetch(url, tmp_path)
    assert (caught.value.code, caught.value.retryable) == (code, False)


@pytest.mark.parametrize("addresses", [[HERE], ["93.184.215.14", "10.0.0.1"]])
def test_a_name_that_leads_to_a_private_address_is_not_asked(tmp_path: Path, addresses: list[str]) -> None:
    with pytest.raises(EngineError) as caught:
        fetch(
            "http://songs.example.com/",
            tmp_path,
            guard=Guard("song_url", ""),
            resolve=lambda host, port: addresses,
        )
    assert (caught.value.code, caught.value.retryable) == ("song_url_forbidden", False)


@pytest.mark.parametrize(
    ("status", "may_pass"),
    [
        *((status, False) for status in (204, 206, 400, 403, 404, 410)),
        *((status, True) for status in (408, 425, 429, 500, 503)),
    ],
)
def test_an_answer_without_a_song_says_whether_it_may_pass(tmp_path: Path, status: int, may_pass: bool) -> None:
    with server(says(f"{status} No")) as url, pytest.raises(EngineError) as caught:
        fetch(url, tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("song_url_failed", may_pass)
    assert str(status) in caught.value.message


def test_a_web_page_is_no_song(tmp_path: Path) -> None:
    page = says("200 OK", b"<html>", Content_Type="text/html; charset=utf-8")
    with server(page) as url, pytest.raises(EngineError, match="web page") as caught:
        fetch(url, tmp_path)
    assert not caught.value.retryable


def test_a_compressed_answer_is_refused(tmp_path: Path) -> None:
    with server(says("200 OK", SONG, Content_Encoding="gzip")) as url, pytest.raises(EngineError) as caught:
        fetch(url, tmp_path)
    assert caught.value.code == "song_url_failed"


def test_a_song_that_is_said_to_be_too_large_is_not_read(tmp_path: Path) -> None:
    with server(says("200 OK", Content_Length="999999999999")) as url, pytest.raises(EngineError) as caught:
        fetch(url, tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("payload_too_large", False)
    assert not (tmp_path / "song").exists()


def test_of_a_song_without_an_end_no_more_is_read_than_songs_may_have(tmp_path: Path) -> None:
    def answer(peer: socket.socket, path: str) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.sendall(bytes(65536))

    with server(answer) as url, pytest.raises(EngineError) as caught:
        fetch(url, tmp_path)
    assert caught.value.code == "payload_too_large"
    assert (tmp_path / "song").stat().st_size <= 1 << 20


@pytest.mark.parametrize("headers", [{"Content_Length": "2000"}, {"Transfer_Encoding": "chunked"}])
def test_a_song_that_breaks_off_may_be_tried_again(tmp_path: Path, headers: dict[str, str]) -> None:
    body = b"7d0\r\n" + SONG[:1000] if "Transfer_Encoding" in headers else SONG[:1000]
    with server(says("200 OK", body, **headers)) as url, pytest.raises(EngineError) as caught:
        fetch(url, tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("song_url_failed", True)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["before the song", "in the song"])
def test_a_server_that_drips_is_left_when_the_time_is_over(tmp_path: Path, head: bytes) -> None:
    gone = threading.Event()

    def answer(peer: socket.socket, path: str) -> None:
        peer.sendall(head)
        while not gone.wait(0.1):
            peer.sendall(b"a")

    with server(answer) as url:
        with pytest.raises(EngineError) as caught:
            fetch(url, tmp_path, limits=SongLimits(1 << 20, seconds=1))
        gone.set()
    assert (caught.value.code, caught.value.retryable) == ("song_url_failed", True)


def test_nobody_there_may_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        fetch(f"http://{HERE}:{free_port()}/", tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("song_url_failed", True)


def test_whoever_fetches_may_end_it_at_any_piece(tmp_path: Path) -> None:
    class CancelledError(Exception):
        pass

    def go_on() -> None:
        if (tmp_path / "song").exists():
            raise CancelledError

    with server(says("200 OK", SONG)) as url, pytest.raises(CancelledError):
        fetch(url, tmp_path, go_on=go_on)


def test_whoever_fetches_may_end_it_while_nothing_comes_of_the_song(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CancelledError(Exception):
        pass

    is_asked, gone = threading.Event(), threading.Event()

    def answer(peer: socket.socket, path: str) -> None:
        is_asked.set()
        peer.sendall(b"HTTP/1.1 200 OK\r\nX-Head: ")
        while not gone.wait(0.1):
            peer.sendall(b"a")

    def go_on() -> None:
        if is_asked.is_set():
            raise CancelledError

    monkeypatch.setattr(call, "LOOK_SECONDS", 0.1)
    with server(answer) as url:
        with pytest.raises(CancelledError):
            fetch(url, tmp_path, go_on=go_on, limits=SongLimits(1 << 20, seconds=20))
        gone.set()


def test_when_the_time_is_over_no_server_is_asked_any_more(tmp_path: Path) -> None:
    asked: list[str] = []

    def slow_resolver(host: str, port: int) -> list[str]:
        time.sleep(0.3)
        return [HERE]

    limits = SongLimits(1 << 20, seconds=0.2)
    with server(lambda peer, path: asked.append(path)) as url, pytest.raises(EngineError) as caught:
        fetch(url.replace(HERE, "songs.example.com"), tmp_path, limits=limits, resolve=slow_resolver)
    assert (caught.value.code, caught.value.retryable, asked) == ("song_url_failed", True, [])


def test_a_name_whose_addresses_do_not_come_may_be_asked_for_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def never(*args: object, **named: object) -> list[object]:
        over.wait()
        return []

    monkeypatch.setattr(address, "RESOLVE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    try:
        with pytest.raises(EngineError) as caught:
            fetch("http://songs.example.com/", tmp_path)
    finally:
        over.set()
    assert (caught.value.code, caught.value.retryable) == ("song_url_failed", True)


def test_of_the_addresses_of_a_name_only_the_first_few_are_asked(tmp_path: Path) -> None:
    dead = [f"127.0.1.{number}" for number in range(1, 1 + call.MOST_ADDRESSES)]
    with server(says("200 OK", SONG)) as url:
        elsewhere, guard = url.replace(HERE, "songs.example.com"), Guard("song_url", "127.0.0.0/8")
        assert fetch(elsewhere, tmp_path, guard=guard, resolve=lambda host, port: [*dead[1:], HERE]) == SONG
        with pytest.raises(EngineError) as caught:
            fetch(elsewhere, tmp_path, guard=guard, resolve=lambda host, port: [*dead, HERE])
    assert caught.value.code == "song_url_failed"


def test_a_full_disk_is_no_fault_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "song").mkdir()  # what can be no file
    with server(says("200 OK", SONG)) as url, pytest.raises(IsADirectoryError):
        fetch(url, tmp_path)
