"""How a callback is delivered: against real servers on this machine."""

import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from urllib3.connection import HTTPConnection

from certificates import self_signed
from support import CallbackServer, free_port, raw_server
from unmix.callbacks import delivery
from unmix.callbacks.delivery import deliver
from unmix.errors import CallbackError
from unmix.job import Callback
from unmix.outbound import call

FIELDS = {"hash": "h", "songhash": "h", "status": "done", "tracks": ["bass", "vocals"]}
HERE = "127.0.0.1"


def test_a_delivery_carries_the_data_and_the_end_of_the_job() -> None:
    with CallbackServer() as server:
        data = {"ticket": 1, "status": "mine"}
        deliver(Callback(server.url, data), FIELDS, allow=HERE, delivery_id="job-0")
        assert server.bodies == [{"ticket": 1, **FIELDS}]


def deliver_to(port: int, host: str = HERE, **options: Any) -> None:
    callback = Callback(f"http://{host}:{port}/done?x=1", {})
    deliver(callback, FIELDS, **{"allow": HERE, "delivery_id": "job-0", **options})


def without_time(request: bytes) -> bytes:
    shortened, count = re.subn(rb"Webhook-Timestamp: [0-9]+", b"", request)
    assert count == 1
    return shortened


def test_the_request_names_host_and_delivery() -> None:
    with raw_server(lambda peer, _: peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as (
        port,
        received,
    ):
        deliver_to(port)
        deliver_to(port)
    head, _, body = received[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /done?x=1 HTTP/1.1"
    assert f"Host: {HERE}:{port}" in lines
    assert "Webhook-Id: job-0" in lines
    assert "Content-Type: application/json" in lines
    assert json.loads(body) == FIELDS
    assert without_time(received[0]) == without_time(received[1])


def test_a_redirect_is_not_followed() -> None:
    with CallbackServer() as elsewhere:
        answer = f"HTTP/1.1 307 Go\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with raw_server(lambda peer, _: peer.sendall(answer)) as (port, _), pytest.raises(CallbackError) as caught:
            deliver_to(port)
        assert caught.value.retryable
        assert elsewhere.bodies == []


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oh", "100 Continue"])
def test_another_answer_than_yes_is_a_failure_that_may_pass(status: str) -> None:
    answer = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    with raw_server(lambda peer, _: peer.sendall(answer)) as (port, _), pytest.raises(CallbackError) as caught:
        deliver_to(port)
    assert caught.value.retryable


def test_nobody_there_is_a_failure_that_may_pass() -> None:
    with pytest.raises(CallbackError) as caught:
        deliver_to(free_port())
    assert caught.value.retryable


@pytest.mark.parametrize(
    "drip", [b"", b"H", b"HTTP/1.1 200 OK\r\nX: "], ids=["silence", "a dripping status", "dripping headers"]
)
def test_a_server_that_does_not_come_to_an_end_is_left(monkeypatch: pytest.MonkeyPatch, drip: bytes) -> None:
    monkeypatch.setattr(delivery, "ANSWER_SECONDS", 1.0)
    gone = threading.Event()

    def answer(peer: socket.socket, _: bytes) -> None:
        peer.sendall(drip)
        while not gone.wait(0.2):
            if drip:
                peer.sendall(b"a")

    with raw_server(answer) as (port, _):
        try:
            with pytest.raises(CallbackError) as caught:
                deliver_to(port)
        finally:
            gone.set()
    assert caught.value.retryable


def test_a_body_that_drips_after_a_yes_does_not_hold_up_the_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "ANSWER_SECONDS", 1.0)
    gone = threading.Event()

    def answer(peer: socket.socket, _: bytes) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not gone.wait(0.2):
            peer.sendall(b"a")

    with raw_server(answer) as (port, _):
        deliver_to(port)  # without the watchdog it would read on for hours
        gone.set()


def test_of_an_endless_answer_little_is_read() -> None:
    sent = 0

    def answer(peer: socket.socket, _: bytes) -> None:
        nonlocal sent
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
        while True:
            sent += peer.send(bytes(65536))

    with raw_server(answer) as (port, _):
        deliver_to(port)
    assert sent < 100_000_000


def test_a_name_that_leads_to_a_private_address_is_not_called() -> None:
    with raw_server(lambda peer, _: None) as (port, received), pytest.raises(CallbackError) as caught:
        deliver_to(port, "rebound.example.com", allow="", resolve=lambda host, port: [HERE])
    assert caught.value.code == "callback_forbidden"
    assert received == []


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(CallbackError) as caught:
        deliver_to(80, "example.com", allow="", resolve=lambda host, port: ["93.184.215.14", "10.0.0.1"])
    assert caught.value.code == "callback_forbidden"


def test_a_name_is_resolved_once_and_the_checked_address_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[HERE], ["10.0.0.1"]])

    def no_more_lookups(*args: Any, **options: Any) -> Any:
        if args[0] != HERE:
            raise AssertionError("the name was looked up again")
        return real(*args, **options)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", no_more_lookups)
    with raw_server(lambda peer, _: peer.sendall(b"HTTP/1.1 204 No\r\n\r\n")) as (port, received):
        deliver_to(port, "hooks.example.com", resolve=lambda host, port: next(answers))
    assert f"Host: hooks.example.com:{port}".encode() in received[0]
    assert next(answers) == ["10.0.0.1"]


def test_a_callback_that_is_allowed_no_more_is_given_up() -> None:
    with pytest.raises(CallbackError) as caught:
        deliver(Callback("http://10.0.0.1/"), FIELDS, allow="", delivery_id="job-0")
    assert (caught.value.code, caught.value.retryable) == ("callback_forbidden", False)


def test_https_asks_for_the_certificate_of_the_named_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path, "hooks.example.com")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str] = []
    context.sni_callback = lambda _, name, __: names.append(str(name))
    with CallbackServer() as server:
        server._server.socket = context.wrap_socket(
            server._server.socket, server_side=True, do_handshake_on_connect=False
        )
        port = server._server.server_port
        here = {"allow": HERE, "delivery_id": "job-0", "resolve": lambda host, port: [HERE]}
        deliver(Callback(f"https://hooks.example.com:{port}/"), FIELDS, **here)  # type: ignore[arg-type]
        assert server.bodies == [FIELDS]
        assert names == ["hooks.example.com"]
        with pytest.raises(CallbackError):
            deliver(Callback(f"https://other.example.com:{port}/"), FIELDS, **here)  # type: ignore[arg-type]
        assert len(server.bodies) == 1


def test_addresses_of_a_host_are_tried_in_turn() -> None:
    unreachable = str(ipaddress.ip_address("127.0.0.2"))
    with raw_server(lambda peer, _: peer.sendall(b"HTTP/1.1 204 No\r\n\r\n")) as (port, received):
        deliver_to(port, "hooks.example.com", allow="127.0.0.0/8", resolve=lambda host, port: [unreachable, HERE])
    assert len(received) == 1


def test_an_address_that_is_dead_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []

    class Connection(HTTPConnection):
        def connect(self) -> None:
            assert isinstance(self.timeout, float)
            if self.host != HERE:
                time.sleep(self.timeout)
                raise OSError("nobody answers")
            left.append(self.timeout)
            super().connect()

    monkeypatch.setattr(call, "HTTPConnection", Connection)
    monkeypatch.setattr(call, "CONNECT_SECONDS", 2.0)
    with raw_server(lambda peer, _: peer.sendall(b"HTTP/1.1 204 No\r\n\r\n")) as (port, _):
        deliver_to(port, "hooks.example.com", allow="127.0.0.0/8", resolve=lambda host, port: ["127.0.0.2", HERE])
    assert left[0] > 0.1


def test_a_server_may_take_longer_to_answer_than_to_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(peer: socket.socket, _: bytes) -> None:
        time.sleep(1)
        peer.sendall(b"HTTP/1.1 204 No\r\n\r\n")

    monkeypatch.setattr(call, "CONNECT_SECONDS", 0.5)
    with raw_server(answer) as (port, received):
        deliver_to(port)
    assert len(received) == 1
