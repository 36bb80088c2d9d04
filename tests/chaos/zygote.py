"""Forks the processes of a run from one that has everything imported, so that a worker starts in milliseconds.

The zygote is a process of its own, with one thread, because a fork copies only the thread that forks. It is the parent
of all that it forks: it alone signals them, so that no pid can meanwhile be somebody else's, and when the harness is
gone, however it ended, it kills what is left.
"""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_TESTS: Final = Path(__file__).parents[1]


class Child:
    """A forked process, as the harness knows it."""

    def __init__(self, zygote: "Zygote", pid: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self.stopped = False  # by SIGSTOP
        self.status: int | None = None  # exit status, or minus the signal that ended it
        self.ended_at = float("inf")  # monotonic, in seconds
        self._zygote = zygote
        self._ended = threading.Event()

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    @property
    def broken(self) -> bool:
        """Whether it ended in disorder, though nobody ended it."""
        return self.status not in (None, 0, -signal.SIGKILL, -signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""
        self._zygote.send("signal", self.pid, number)

    def wait(self, seconds: float) -> int:
        """Return the status once the process has ended."""
        if not self._ended.wait(seconds):
            raise AssertionError(f"{self.name} did not end")
        assert self.status is not None
        return self.status

    def changed(self, status: int) -> None:
        """Take note of what waitpid told."""
        if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
            self.stopped = os.WIFSTOPPED(status)
            return
        self.status = os.waitstatus_to_exitcode(status)
        self.ended_at = time.monotonic()
        self._ended.set()


class Zygote:
    """The harness' end: asks for processes, and learns how they fare in a thread of its own."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._connection, theirs = Pipe()
        command = [sys.executable, "-m", "chaos.zygote", str(theirs.fileno())]
        # What this process imports, and no other copy of it.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS), *sys.path])}
        # A session of its own, so that Ctrl-C reaches the harness alone.
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        self._children: dict[int, Child] = {}
        self._forked: Child | None = None
        self._name = ""  # of what is being forked
        self._turn, self._answer = threading.Lock(), threading.Semaphore(0)
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def fork(self, name: str, role: Callable[..., int | None], settings: dict[str, str], *args: Any) -> Child:
        """Start a process that runs `role(*args)` with `settings` in its environment; it logs to `<name>.log`."""
        with self._turn:
            self._name = name
            self.send("fork", self._log_dir / f"{name}.log", role, settings, args)
            self._answer.acquire()
            assert self._forked is not None, "the zygote has ended"
            return self._forked

    def send(self, *message: Any) -> None:
        with self._sending:
            self._connection.send(message)

    def close(self) -> None:
        """Kill all that was forked, and end."""
        self.send("end")
        self._process.wait()
        self._reader.join()
        self._connection.close()

    def _read(self) -> None:
        with suppress(EOFError, ConnectionError):
            while True:
                pid, status = self._connection.recv()
                if status is None:
                    self._forked = self._children[pid] = Child(self, pid, self._name)
                    self._answer.release()
                else:
                    self._children[pid].changed(status)
                    if not self._children[pid].alive:
                        del self._children[pid]
        self._forked = None
        self._answer.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def main(descriptor: int) -> None:
    """Fork and signal as told until the harness says so or is gone."""
    import chaos.roles  # noqa: F401  # what is to be shared by all forks

    connection = Connection(descriptor)
    children: set[int] = set()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    try:
        while True:
            ready = wait([connection, woken])
            if woken in ready:
                os.read(woken, 4096)
                _reap(children, connection)
            if connection in ready:
                order, *details = connection.recv()
                if order == "end":
                    return
                if order == "fork":
                    pid = _fork(connection, woken, wake, *details)
                    children.add(pid)
                    connection.send((pid, None))
                elif details[0] in children:
                    os.kill(*details)
    except (EOFError, ConnectionError):
        pass  # the harness is gone
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _reap(children: set[int], connection: Connection) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if pid == 0:
            return
        if not os.WIFSTOPPED(status) and not os.WIFCONTINUED(status):
            children.remove(pid)
        connection.send((pid, status))


def _fork(
    connection: Connection,
    woken: int,
    wake: int,
    log: Path,
    role: Callable[..., int | None],
    settings: dict[str, str],
    args: tuple[Any, ...],
) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.close()
        os.close(woken)
        os.close(wake)
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        os.environ.update(settings)
        status = role(*args) or 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
