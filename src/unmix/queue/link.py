"""The link to Redis: one pool of connections, the scripts, Redis' clock, and its errors as ours.

Every change of state is one Lua script of its own file in `scripts/`, so it happens whole or not at all; so is a page
of the list of jobs, which would take three questions and an answer of hundreds of parts. The keys are described in
`docs/redis-keys.md`. This is the only module that imports `redis`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from unmix.errors import QueueError

#: Seconds to wait for Redis' answer; longer than any take blocks (the setting `take_seconds` is at most 5).
REPLY_SECONDS: Final = 10

_SCRIPTS: Final = (
    *("submit", "claim", "renew", "release", "fail", "finish", "sweep", "forget", "add_callback"),
    *("ask_help", "take_run", "renew_run", "note_part", "note_speed", "take_call", "take_quota", "trim_log"),
    "count_ahead",
    *("list_jobs", "note_job", "drop_job"),
)
#: What some of them have in common, and before them.
_BEFORE: Final = {
    **dict.fromkeys(("submit", "claim", "forget", "count_ahead"), ("rounds",)),
    "finish": ("job_list", "rounds"),
    **dict.fromkeys(("note_job", "drop_job"), ("job_list",)),
}


class RedisLink:
    """One Redis server; `client` talks to it, to be used inside `errors()`."""

    def __init__(self, url: str, *, password: str = "") -> None:
        with self.errors():
            self.client = redis.Redis.from_url(
                url,
                password=password or None,
                decode_responses=True,
                # Foreign elements are any bytes; this reads and writes them back unchanged.
                encoding_errors="surrogateescape",
                socket_timeout=REPLY_SECONDS,
                socket_connect_timeout=REPLY_SECONDS,
                # A blocking take that is silently sent again hangs or takes twice: a failure must show.
                retry=Retry(NoBackoff(), 0),
            )
        texts = {name: "".join(map(_text, (*_BEFORE.get(name, ()), name))) for name in _SCRIPTS}
        self._scripts = {name: self.client.register_script(text) for name, text in texts.items()}

    def run(self, script: str, keys: list[str], *args: str | int | float) -> Any:
        """Run one of the scripts and return its answer."""
        with self.errors():
            return self._scripts[script](keys=keys, args=args)

    def now_ms(self) -> int:
        """Return the time by Redis' clock, in ms since the epoch; inside `errors()`."""
        seconds, microseconds = self.client.time()
        return seconds * 1000 + microseconds // 1000

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what redis-py raises into `QueueError`."""
        try:
            yield
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
            raise QueueError(f"Redis refuses the password or user: {error}", code="queue_denied") from error
        except (redis.RedisError, ValueError, OSError) as error:
            raise QueueError(f"Redis does not answer as it should: {error}") from error


def _text(script: str) -> str:
    return (resources.files("unmix.queue") / "scripts" / f"{script}.lua").read_text()
