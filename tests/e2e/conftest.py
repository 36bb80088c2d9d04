"""Fixtures of the end-to-end tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s3_servers import moto, shared_moto
from stack import Stack, running

__all__ = ["make_stack", "moto", "service", "shared_moto"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running service with one worker for tests that disturb nothing; each sends songs of its own."""
    settings = {"UNMIX_CALLBACK_ALLOW": "127.0.0.1", "UNMIX_MAX_SONG_SECONDS": "61"}
    with running(tmp_path_factory.mktemp("service"), **settings) as service:
        yield service


@pytest.fixture
def make_stack(tmp_path: Path, redis_url: str) -> Iterator[Callable[..., Stack]]:
    """Make a service of the test's own; it is not started yet."""
    stacks: list[Stack] = []

    def make(**settings: str) -> Stack:
        stacks.append(Stack(tmp_path, redis_url, **settings))
        return stacks[-1]

    yield make
    for stack in stacks:
        stack.stop()
