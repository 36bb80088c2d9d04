"""Local mode: the whole service on one machine, as the processes that a cluster would run.

A Redis-protocol server (unless `UNMIX_REDIS_URL` names one), REST, the janitor and the workers are started as
subprocesses and told of each other by `UNMIX_*` variables; `unmix.local.supervisor` keeps them running. Each
logs in to a server of ours as the user that it is in a deployment. All data lies in one folder, so that what was
unfinished at Ctrl-C (or at a crash) goes on at the next start. No service is imported here.
"""

import fcntl
import http.client
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from unmix.access.exposure import check_exposure
from unmix.errors import InputError, UnmixError
from unmix.local.embedded_redis import roles, server_command, write_users
from unmix.local.sizing import threads_for
from unmix.local.supervisor import POLL_SECONDS, ProcessPlan, Supervisor
from unmix.runtime.secrecy import keep_secrets, private
from unmix.settings import Settings
from unmix.words import counted

if TYPE_CHECKING:
    from unmix.local.narrator import Narrator

#: When to say what is being waited for, in seconds after the start.
PATIENCE_SECONDS: Final = 15.0
#: Longest block of a worker's take here: an idle worker ends that much after Ctrl-C.
TAKE_SECONDS: Final = 1.0
#: What REST has to end after its `rest_shutdown_seconds`, which are for the requests that are under way.
REST_RESERVE_SECONDS: Final = 5.0
#: All that our Redis server gets of the environment, because whoever separates can read what it was told.
_SERVER_VARIABLES: Final = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """What to run: the folder for all data, REST's port, and who separates with which model."""

    data_dir: Path
    port: int
    workers: int
    model: str

    @property
    def url(self) -> str:
        """Where REST answers."""
        return f"http://localhost:{self.port}"

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs."""
        return self.data_dir / "logs"

    @property
    def store_url(self) -> str:
        """The store, which is a folder."""
        return f"file://{self.data_dir / 'store'}"

    @property
    def song_logs(self) -> list[Path]:
        """The logs that tell what becomes of songs."""
        return [self.logs / f"{name}.log" for name in ("rest", *self.worker_names)]

    @property
    def worker_names(self) -> list[str]:
        """What the workers' processes are called."""
        return [f"worker-{number}" for number in range(1, self.workers + 1)]

    def heartbeat(self, worker: int) -> Path:
        """The file that a worker touches once its model is loaded."""
        return self.data_dir / "run" / f"worker-{worker}.alive"


class LocalStack:
    """The running service. `check` has to be called several times a second; `wait_until_ready` does so itself."""

    def __init__(self, plan: LocalPlan, redis_url: str, supervisor: Supervisor, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.redis_url = redis_url
        self._supervisor = supervisor
        self._say = say
        self._has_worker = True

    def check(self) -> None:
        """Start again what died and is due, and say so when no worker is ready any more, and when one is again.

        Raises:
            UnmixError: something can never work.
        """
        self._supervisor.check()
        has_worker = any(self.plan.heartbeat(worker).exists() for worker in range(1, self.plan.workers + 1))
        if has_worker != self._has_worker:
            self._has_worker = has_worker
            again = f"songs wait until one has started again; why they ended is in {self.plan.logs}"
            self._say("a worker is ready again" if has_worker else f"no worker is ready: {again}")

    def wait_until_ready(self, *, limit_seconds: float | None = None) -> None:
        """Return once REST answers and every worker has loaded its model.

        Raises:
            UnmixError: that took longer than `limit_seconds` (`not_ready`), or will never be; the message says why.
        """
        started_at = time.monotonic()
        has_said = False
        while missing := self._missing():
            self._supervisor.check_first_start()
            waited_seconds = time.monotonic() - started_at
            if limit_seconds is not None and waited_seconds > limit_seconds:
                raise UnmixError(
                    f"not ready after {limit_seconds:.0f} s: {', '.join(missing)}\n{self.tails()}", code="not_ready"
                )
            if waited_seconds > PATIENCE_SECONDS and not has_said:
                has_said = True
                self._say(f"still waiting for {', '.join(missing)}; the logs are in {self.plan.logs}")
            time.sleep(POLL_SECONDS)

    def tails(self) -> str:
        """Return the end of what every process has logged, to be shown when something went wrong."""
        return self._supervisor.tails()

    def _missing(self) -> list[str]:
        """Return who is not ready."""
        missing = [] if _rest_is_ready(self.plan.port) else ["rest"]
        for worker in range(1, self.plan.workers + 1):
            if not self.plan.heartbeat(worker).exists():
                missing.append(f"worker-{worker} (loading {self.plan.model})")
        return missing


def serve(settings: Settings, plan: LocalPlan, *, say: Callable[[str], None]) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    Raises:
        InputError: the port or the data folder is in use (`port_in_use`, `data_dir_in_use`), the latter is a file
            (`bad_data_dir`), or strangers would be served without a word (`exposed`).
        UnmixError: a process can never work, as where there is no such model; the message and the code are its own.
        QueueError: there is no Redis-protocol server on this machine, or not its settings (`no_redis_server`,
            `no_redis_config`).
    """
    keep_secrets()
    needs_key = settings.auth == "keys"
    behind_proxy = bool(settings.trusted_proxy)
    check_exposure(settings.host, behind_proxy=behind_proxy, needs_key=needs_key, is_open=settings.open)
    if settings.open and not needs_key:
        say(f"warning: whoever reaches {settings.host}:{plan.port} may send, fetch and remove all songs (UNMIX_OPEN)")
    with interruptible(), running(settings, plan, say=say) as stack:
        try:
            narrator = _narrator(settings, plan, say)
            stack.wait_until_ready()
            workers = f"{counted(plan.workers, 'worker')} on {settings.device}"
            threads = counted(threads_for(settings, plan.workers), "thread") + " each" * (plan.workers > 1)
            say(f"Track-Unmix serves at {plan.url} ({workers}, {threads}, model {plan.model})")
            say(f"  data in {plan.data_dir}, logs in {plan.logs}; Ctrl-C ends it")
            say(f"  {settings.retention}; songs are refused when the disk comes to its reserve (UNMIX_MIN_FREE_GB)")
            where = f"UNMIX_REDIS_URL={stack.redis_url} UNMIX_STORE_URL={plan.store_url}"
            say(f"  what takes room: {where} .venv/bin/unmix status")
            say(f"  try: REST=localhost:{plan.port} .venv/bin/python sample-requests.py --wait SONG")
            say(f"  logs of all services: UNMIX_REDIS_URL={stack.redis_url} .venv/bin/unmix logs --peek")
            while True:
                stack.check()
                narrator.go_on()
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            say("stopping: a worker ends its song or gives it back, REST ends its transfers; Ctrl-C again kills them")
    say("stopped")


@contextmanager
def running(settings: Settings, plan: LocalPlan, *, say: Callable[[str], None]) -> Iterator[LocalStack]:
    """Start the service, and end it when the context is left: the workers first, Redis last.

    Raises:
        InputError, QueueError: as `serve` says.
    """
    _check_port(plan.port)
    if plan.data_dir.exists() and not plan.data_dir.is_dir():
        raise InputError(f"{plan.data_dir} is a file; name a folder for the data with --data-dir", code="bad_data_dir")
    for folder in (plan.data_dir, *(plan.data_dir / name for name in ("redis", "store", "logs", "run"))):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(PermissionError):
        plan.data_dir.chmod(0o700)  # an earlier version may have made it, for everybody to read
    with _locked(plan.data_dir) as lock:
        for worker in range(1, plan.workers + 1):
            plan.heartbeat(worker).unlink(missing_ok=True)  # of an earlier run
        own_redis = None if "redis_url" in settings.model_fields_set else _OwnRedis(plan.data_dir / "redis")
        stages = _stages(settings, plan, own_redis)
        with Supervisor(stages, say=say, held_files=[lock]) as supervisor:
            supervisor.start()
            yield LocalStack(plan, own_redis.url if own_redis else settings.redis_url, supervisor, say)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does; a signal that the parent chose to ignore stays so."""

    def end_once(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # some senders repeat it; only a second Ctrl-C means haste
        raise KeyboardInterrupt

    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: end_once, signal.SIGHUP: end_once}
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _OwnRedis:
    """A Redis server that local mode starts itself, with passwords that hold until the next start."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._port = free_port()
        self._passwords = {role: secrets.token_hex(16) for role in roles()}
        write_users(data_dir, self._passwords)

    @property
    def url(self) -> str:
        """Where a person without a password gets in."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def command(self) -> list[str]:
        return server_command(self._port, self._data_dir)

    def login(self, role: str) -> dict[str, str]:
        """Return the variables with which a process logs in."""
        return {
            "UNMIX_REDIS_URL": f"redis://{role}@127.0.0.1:{self._port}/0",
            "UNMIX_REDIS_PASSWORD": self._passwords[role],
        }


def _stages(settings: Settings, plan: LocalPlan, own_redis: _OwnRedis | None) -> list[list[ProcessPlan]]:
    """Return the processes in the order of their start."""
    stages = []
    environment = {
        **os.environ,
        "UNMIX_MODEL": plan.model,
        "UNMIX_DEVICE": settings.device,
        "UNMIX_AUTH": settings.auth,
        "UNMIX_HOST": settings.host,
        "UNMIX_THREADS": str(threads_for(settings, plan.workers)),  # left alone, each worker would take every processor
        "UNMIX_PORT": str(plan.port),
        "UNMIX_STORE_URL": plan.store_url,
        "UNMIX_TAKE_SECONDS": str(min(settings.take_seconds, TAKE_SECONDS)),
    }
    if own_redis is not None:
        told = {name: os.environ[name] for name in _SERVER_VARIABLES if name in os.environ}
        log = plan.logs / "redis.log"
        stages.append([ProcessPlan("redis", own_redis.command, told, log, settings.shutdown_seconds)])

    def process(name: str, *arguments: str, **variables: str) -> ProcessPlan:
        log = plan.logs / f"{name}.log"
        role = name.partition("-")[0]  # worker-2 is a worker
        login = own_redis.login(role) if own_redis else {"UNMIX_REDIS_URL": settings.redis_url}
        seconds = settings.rest_shutdown_seconds + REST_RESERVE_SECONDS if role == "rest" else settings.shutdown_seconds
        return ProcessPlan(name, [sys.executable, "-m", *arguments], environment | login | variables, log, seconds)

    def metrics(number: int) -> dict[str, str]:
        port = settings.metrics_port
        return {} if port is None else {"UNMIX_METRICS_PORT": str(port + number)}

    stages.append([process("rest", "unmix_rest"), process("janitor", "unmix.cli", "janitor", **metrics(0))])
    stages.append(
        [
            process(name, "unmix_worker", UNMIX_WORKER_HEARTBEAT=str(plan.heartbeat(number)), **metrics(number))
            for number, name in enumerate(plan.worker_names, start=1)
        ]
    )
    return stages


def _narrator(settings: Settings, plan: LocalPlan, say: Callable[[str], None]) -> "Narrator":
    """Return who says what becomes of songs; what that needs is loaded only here."""
    from unmix.ledger.ledger import Ledger
    from unmix.local.narrator import Narrator
    from unmix.runtime.connect import connect_store

    store = connect_store(settings.model_copy(update={"store_url": plan.store_url}))
    return Narrator(plan.song_logs, Ledger(store), say)


def _rest_is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/healthz")  # REST listens only once Redis and the store have answered
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _check_port(port: int) -> None:
    """Make sure that nobody answers clients of `localhost` already, on IPv4 or IPv6."""
    with suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
        raise InputError(
            f"port {port} is in use; choose another, as in `unmix local --port 5001` or `make run PORT=5001` "
            "(on macOS, AirPlay Receiver listens on port 5000)",
            code="port_in_use",
        )


@contextmanager
def _locked(data_dir: Path) -> Iterator[int]:
    """Keep the folder to ourselves, and yield the descriptor that holds it.

    The lock lasts while any process has the descriptor: the guard does until the last orphan is dead, so that two
    Redis servers never write the same file.
    """
    with open(data_dir / "lock", "w", opener=private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another `unmix local` uses {data_dir}", code="data_dir_in_use") from error
        yield file.fileno()
