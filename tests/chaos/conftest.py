"""Fixtures of the fault-injection tests: services with intervals scaled down further than in the mass runs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.history import History
from chaos.service import SCALED, Service
from chaos.zygote import Zygote
from support import RedisServer

FASTER = SCALED | {
    "UNMIX_LEASE_SECONDS": "0.6",
    "UNMIX_RENEW_SECONDS": "0.1",
    "UNMIX_SWEEP_SECONDS": "0.05",
    "UNMIX_GRACE_SECONDS": "0.3",
    "UNMIX_RECONCILE_SECONDS": "0.2",
    "UNMIX_AUDIT_HOURS": "0.0003",
    "UNMIX_TAKE_SECONDS": "0.2",
    "UNMIX_RETRY_SECONDS": "0.05",
}


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """What forks the processes of all tests; their logs lie in its folder."""
    with Zygote(tmp_path_factory.mktemp("chaos")) as zygote:
        yield zygote


@pytest.fixture
def make_service(
    zygote: Zygote, shared_redis: RedisServer, redis_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Service]]:
    """Make a service of the test's own, with a janitor and without workers."""
    services: list[Service] = []

    def make(server: RedisServer = shared_redis, **settings: str) -> Service:
        history = tmp_path / "history.jsonl"
        history.touch()
        service = Service(
            zygote, server, History(history, request.node.name), tmp_path, FASTER | settings, patience_seconds=20
        )
        services.append(service)
        service.start_janitor()
        return service

    yield make
    for service in services:
        service.close()


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """A service with a janitor and without workers."""
    return make_service()
