"""A port of their own for those who run the service: the port of the clients does not know their routes any more."""

from collections.abc import Callable

import pytest
import requests

from rest_process import RestProcess
from support import free_port

OPERATORS = ("/metrics", "/readyz", "/apiv1/failed")
EVERYBODY = ("/healthz", "/version")
CLIENTS = ("/", "/ui", "/apiv1/queue", "/apiv1/jobs", "/apiv1/models")


@pytest.fixture
def admin(start: Callable[..., RestProcess], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Start REST with a port for its operators; returns the URL of clients, and that of operators."""
    admin_port = free_port()
    monkeypatch.setattr(RestProcess, "_is_ready", lambda rest: "rest ready" in rest.log.read_text() and is_up(rest.url))
    rest = start(UNMIX_ADMIN_PORT=str(admin_port), UNMIX_ADMIN_HOST="127.0.0.1")
    return rest.url, f"http://127.0.0.1:{admin_port}"


def is_up(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=10).ok
    except requests.ConnectionError:
        return False


def status(url: str, method: str = "GET", **headers: str) -> int:
    return requests.request(method, url, headers=headers, timeout=30, allow_redirects=False).status_code


def test_each_port_answers_its_own_routes_alone(admin: tuple[str, str]) -> None:
    clients, operators = admin
    for path in (*OPERATORS, *EVERYBODY):
        assert status(operators + path) == 200, path
    for path in EVERYBODY:
        assert status(clients + path) == 200, path
    for path in CLIENTS:
        assert status(clients + path) == 200, path
        assert status(operators + path) == 404, path
    answer = requests.post(f"{operators}/apiv1/jobs", data=b"song", timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
def test_however_a_client_asks_the_routes_of_operators_are_not_there(admin: tuple[str, str], method: str) -> None:
    clients, operators = admin
    port = operators.rpartition(":")[2]
    for path in ("/metrics", "/metrics/", "/%6detrics", "/readyz?x=1", "/apiv1/failed"):
        assert status(clients + path, method) == 404, path
        told = {"Host": f"127.0.0.1:{port}", "X-Forwarded-Port": port, "X-Forwarded-Host": f"127.0.0.1:{port}"}
        assert status(clients + path, method, **told, Forwarded=f'host="127.0.0.1:{port}"') == 404, path
    assert status(clients + "//metrics") in (308, 404)  # to a path that is not there


def test_what_shuts_decoders_in_is_told_to_operators(admin: tuple[str, str]) -> None:
    _, operators = admin
    told = requests.get(f"{operators}/readyz", timeout=30).json()["decoder_sandbox"]
    assert all(each.startswith(("landlock ", "seccomp")) for each in told)


def test_without_a_port_of_their_own_operators_ask_where_clients_do(start: Callable[..., RestProcess]) -> None:
    rest = start(UNMIX_ADMIN_PORT="")
    for path in (*OPERATORS, *EVERYBODY, "/apiv1/queue"):
        assert status(rest.url + path) == 200, path
