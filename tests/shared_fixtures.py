"""Fixtures for all tests; `conftest.py` loads them once the environment is the same everywhere."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import environment
from support import RedisServer, free_port
from unmix.ledger.ledger import Ledger
from unmix.queue.job_queue import JobQueue, QueuePolicy
from unmix.store.file import FileStore


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    """Have files of tests made in the same way: what runs in their own process changes that for the service's."""
    yield
    os.umask(environment.UMASK)


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where tests, and the processes that they start, keep converted models: each is converted once in a run."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the folder above is that of all who run tests beside each other
        folder = folder.parent
    folder = folder / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNMIX_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture
def unused_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    return free_port()


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(shared_redis: RedisServer) -> str:
    """URL of an empty database on a real server."""
    with redis.Redis.from_url(shared_redis.url) as client:
        client.flushall()
    return shared_redis.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be killed and started at will."""
    data_dir = tmp_path / "own-redis"
    data_dir.mkdir()
    server = RedisServer(data_dir)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def policy() -> QueuePolicy:
    """How patient `queue` is. A file whose tests wait for it has a fixture of this name that is less so."""
    return QueuePolicy()


@pytest.fixture
def queue(redis_url: str, policy: QueuePolicy) -> Iterator[JobQueue]:
    """An empty queue on a real server."""
    with JobQueue(redis_url, policy=policy) as queue:
        yield queue


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """An empty store in a folder of the test's own."""
    store = FileStore(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def ledger(store: FileStore) -> Ledger:
    """The ledger over `store`."""
    return Ledger(store)
