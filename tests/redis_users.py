"""The users of a Redis server, as they stand in its ACL file."""

from pathlib import Path

from support import redis_password
from unmix.local.embedded_redis import USERS_FILE, roles, write_users


def written_users(folder: Path) -> Path:
    """Write the ACL file of a server with the tests' passwords, and return it."""
    write_users(folder, {role: redis_password(role) for role in roles()})
    return folder / USERS_FILE


def users_of(file: Path) -> dict[str, list[str]]:
    """Return each user of an ACL file with its state, password and rights."""
    return {words[1]: words[2:] for words in map(str.split, file.read_text().splitlines()) if words}
