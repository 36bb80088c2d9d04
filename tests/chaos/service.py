"""One service under test: a Redis server, a store, the janitor and workers, as processes that may be killed."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from chaos import roles
from chaos.checker import Objects, Verdict, check, left_in_redis, objects_in_folder, owed_jobs
from chaos.clients import Order
from chaos.history import History
from chaos.points import Plan
from chaos.stand_in import MODEL
from chaos.zygote import Child, Zygote
from support import RedisServer, eventually, redis_login

#: Intervals scaled down: a minute and a half of production in two seconds.
SCALED: Final = {
    "UNMIX_LEASE_SECONDS": "1",
    "UNMIX_RENEW_SECONDS": "0.2",
    "UNMIX_SWEEP_SECONDS": "0.1",
    "UNMIX_GRACE_SECONDS": "0.5",
    "UNMIX_RECONCILE_SECONDS": "1",
    "UNMIX_AUDIT_HOURS": "0.001",
    "UNMIX_TAKE_SECONDS": "0.5",
    "UNMIX_RETRY_SECONDS": "0.1",
    "UNMIX_CALLBACK_RETRY_SECONDS": "0.1",
    "UNMIX_CALLBACK_HOST_AT_ONCE": "16",  # one receiver has the callbacks of all songs
    "UNMIX_CALLBACK_HOST_PER_MINUTE": "1000000",
    "UNMIX_STORE_PATIENCE_SECONDS": "3",
}
#: Every wait ends after so many seconds unless told otherwise, on however busy a machine.
PATIENCE_SECONDS: Final = 120.0


class Service:
    """What it starts ends with it."""

    def __init__(
        self,
        zygote: Zygote,
        redis_server: RedisServer,
        history: History,
        folder: Path,
        settings: Mapping[str, str],
        *,
        read_objects: Callable[[], Objects] | None = None,
        calls: Sequence[dict[str, Any]] = (),
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """`read_objects` reads the store that the settings name; without it there is a file store in `folder`.

        `calls` are the callbacks that arrive somewhere; they go to the history.
        """
        self.redis = redis_server
        self.history = history
        self.folder = folder
        store = folder / "store"
        self.read_objects = read_objects or (lambda: objects_in_folder(store))
        self._patience_seconds = patience_seconds
        self._calls = calls
        self._calls_noted = 0
        self._zygote = zygote
        self._children: list[Child] = []
        self._settings = {
            "UNMIX_STORE_URL": f"file://{store}",
            "UNMIX_MODEL": MODEL,
            "UNMIX_SCRATCH_DIR": str(folder / "scratch"),
            "UNMIX_CALLBACK_ALLOW": "127.0.0.1",
            "UNMIX_LOG_LIST_MAX": "0",
            "UNMIX_PARTS_LEAST_SECONDS": "0.5",  # clients within say a second of every song
            **settings,
        }

    def start_worker(self, *plans: Plan, **settings: str) -> Child:
        """Start a worker that comes to harm as planned."""
        return self.fork("worker", roles.run_worker, self.history, plans, **settings)

    def start_janitor(self) -> Child:
        return self.fork("janitor", roles.run_janitor)

    def start_client(
        self, orders: Sequence[Order], *plans: Plan, most_open: int = 1_000_000, rest_url: str | None = None
    ) -> Child:
        """Start one who asks for everything in `orders`, and comes to harm as planned; see `roles.run_client`."""
        return self.fork("rest", roles.run_client, self.history, orders, plans, most_open, rest_url)

    def fork(self, role: str, run: Callable[..., int | None], *args: Any, **settings: str) -> Child:
        """Start a process that logs in to Redis as `role`."""
        name = f"{self.history.run}-{role}-{len(self._children)}"
        login = redis_login(self.redis.url, role)
        child = self._zygote.fork(name, run, {**self._settings, **login, **settings}, *args)
        self._children.append(child)
        return child

    def carry_out(self, *orders: Order) -> None:
        """Have a client ask for `orders`, and wait until it is answered."""
        status = self.start_client(orders).wait(self._patience_seconds)
        assert status == 0, "a client failed; its log says why"

    def accepted(self) -> list[str]:
        """Return the jobs that were ever accepted, sorted."""
        return sorted({event["job"] for event in self.history.events() if event["event"] == "accepted"})

    def flush_redis(self) -> None:
        """Let Redis forget everything."""
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()
        self.history.note("flushed")

    def restart_redis(self, gap_seconds: float = 0) -> None:
        """Kill Redis, and start it again on the same data."""
        self.redis.kill()
        self.history.note("redis killed")
        time.sleep(gap_seconds)
        self.redis.start()
        self.history.note("redis started")

    def wait_for(self, condition: Callable[[], Any], what: str, patience_seconds: float | None = None) -> None:
        eventually(condition, what, patience_seconds=patience_seconds or self._patience_seconds)

    def wait_for_event(self, event: str, times: int = 1) -> None:
        """Return once the history has `event`, for the `times`-th time."""
        self.wait_for(lambda: sum(each["event"] == event for each in self.history.events()) >= times, event)

    def verdict(self, *, also_marks: bool = True) -> Verdict:
        """Wait until all is over, but not for ever, and judge the run as it then is.

        Without `also_marks` nobody waits for the reconciler to take the marks away.
        """
        deadline = time.monotonic() + self._patience_seconds
        while True:
            with suppress(AssertionError):  # the verdict says what is not over, job by job
                self.wait_for(self._is_over, "all is over", max(0.1, deadline - time.monotonic()))
            self._note_calls()
            verdict = check(self.history.events(), self.read_objects(), left_in_redis(self.redis.url))
            verdict.still_marked = verdict.still_marked if also_marks else []
            verdict.broken = [f"{child.name} ended with {child.status}" for child in self._children if child.broken]
            # What is mixed is wrong at any time.
            if not verdict.unfinished or verdict.mixed or time.monotonic() > deadline:
                return verdict
            time.sleep(0.2)

    def close(self) -> None:
        """Kill what still runs."""
        living = [child for child in self._children if child.alive]
        for child in living:
            child.signal(signal.SIGKILL)
        for child in living:
            child.wait(self._patience_seconds)

    def _note_calls(self) -> None:
        for body in self._calls[self._calls_noted :]:
            self.history.note("called", job=body["hash"])
            self._calls_noted += 1

    def _is_over(self) -> bool:
        # Redis may be empty because it was flushed: what is owed stands in the store.
        return not left_in_redis(self.redis.url) and not owed_jobs(self.read_objects())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
