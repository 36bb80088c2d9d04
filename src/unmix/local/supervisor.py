"""Keeps processes running: starts them in stages, starts again what dies, ends them in the reverse order.

It knows nothing of what the processes do; `unmix.local.local` says which ones there are. One that says itself that it
can never work (`unmix.runtime.last_words`), or dies at its start again and again, is not started any more. Each process
leads a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone, which then decides the order.
Should the supervisor itself be killed, `unmix.local.guard` ends what it left behind.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from unmix.errors import UnmixError
from unmix.runtime.last_words import NEVER
from unmix.runtime.secrecy import private

#: Pause before a dead process is started again: it doubles with each death and is reset by a long life.
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
LONG_LIFE_SECONDS: Final = 60.0
#: How often a process may die in a row before whoever waits for the first start of all gives up.
MOST_EARLY_DEATHS: Final = 5

POLL_SECONDS: Final = 0.1
#: A log is begun anew when it is larger than this; the one before it is kept beside.
MOST_LOG_BYTES: Final = 10 << 20
LOG_LOOK_SECONDS: Final = 5.0
#: How much of a log is shown when its process died.
TAIL_LINES: Final = 8
TAIL_BYTES: Final = 8192
#: What `unmix.runtime.last_words` says.
_LAST_WORDS: Final = re.compile(r"error: (?P<message>.*) \((?P<code>\w+)\)")


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """How to start one process, and how long it may take to end. Its output is appended to the file `log`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    shutdown_seconds: float


class Supervisor:
    """Runs `stages` of processes: the first stage starts first and ends last.

    As a context it starts nothing by itself, and ends everything when it is left. A second Ctrl-C while it does so
    kills what is left.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[ProcessPlan]],
        *,
        say: Callable[[str], None],
        held_files: Sequence[int] = (),
    ) -> None:
        """Prepare to run `stages`; `held_files` are descriptors that stay open until the last process is dead."""
        self._stages = [[_Process(plan, say, self._note) for plan in stage] for stage in stages]
        self._say = say
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "unmix.local.guard"],
            stdin=subprocess.PIPE,
            text=True,
            pass_fds=held_files,
            start_new_session=True,
        )

    def start(self) -> None:
        """Start every process."""
        for stage in self._stages:
            for process in stage:
                process.start()

    def check(self) -> None:
        """Notice what died, and start it again when its pause is over. To be called several times a second.

        Raises:
            UnmixError: a process can never work; the message and the code are its own.
        """
        for stage in self._stages:
            for process in stage:
                process.check()

    def check_first_start(self) -> None:
        """As `check`, but give up a process that dies at its start again and again.

        Raises:
            UnmixError: as `check`; or there is such a process (`not_ready`).
        """
        self.check()
        for stage in self._stages:
            for process in stage:
                if process.deaths >= MOST_EARLY_DEATHS:
                    text = f"{process.plan.name} ended {process.deaths} times at its start; the end of its log:"
                    raise UnmixError(f"{text}\n{process.tail()}", code="not_ready")

    def stop(self) -> None:
        """Ask each stage to end, the last one first, and kill what has not after its `shutdown_seconds`."""
        for stage in reversed(self._stages):
            for process in stage:
                process.terminate()
            asked_at = time.monotonic()
            for process in stage:
                seconds = process.plan.shutdown_seconds
                if not process.wait(asked_at + seconds):
                    self._say(f"{process.plan.name} did not end within {seconds:g} s: killed")
                    process.kill()

    def tails(self) -> str:
        """Return the end of what every process has logged in this run, to be shown when something went wrong."""
        processes = [process for stage in self._stages for process in stage]
        return "\n".join(f"{process.plan.log.name}:\n{process.tail()}" for process in processes)

    def _note(self, line: str) -> None:
        """Tell the guard which process group began or ended."""
        assert self._guard.stdin is not None
        self._guard.stdin.write(line + "\n")
        self._guard.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            for stage in reversed(self._stages):
                for process in stage:
                    process.kill()  # has an effect only if `stop` was interrupted
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait()


class _Process:
    """One process that is started again whenever it ends."""

    def __init__(self, plan: ProcessPlan, say: Callable[[str], None], note: Callable[[str], None]) -> None:
        self.plan = plan
        self._say = say
        self._note = note
        self._child: subprocess.Popen[bytes] | None = None
        self._started_at = self._log_looked_at = 0.0
        self._start_at: float | None = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._log_start = 0  # where in the log this run of it begins
        self.deaths = 0  # in a row

    def start(self) -> None:
        with open(self.plan.log, "ab", opener=private) as log:
            self._log_start = log.tell()
            self._child = subprocess.Popen(
                self.plan.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.plan.environment,
                start_new_session=True,
                umask=0o077,  # songs, stems and logs are nobody else's business
            )
        self._note(f"+{self._child.pid}")
        self._started_at = time.monotonic()

    def check(self) -> None:
        now = time.monotonic()
        if now - self._log_looked_at > LOG_LOOK_SECONDS:
            self._log_looked_at = now
            _rotate(self.plan.log)
        if self._child is None:
            if self._start_at is not None and now >= self._start_at:
                self.start()
        elif (status := self._child.poll()) is not None:
            self._forget_child()
            if status == NEVER:
                raise self._last_words()
            if now - self._started_at > LONG_LIFE_SECONDS:
                self._pause_seconds = FIRST_PAUSE_SECONDS
                self.deaths = 0
            self.deaths += 1
            self._say(
                f"{self.plan.name} {_describe(status)}; it starts again in {self._pause_seconds:g} s. "
                f"The end of {self.plan.log}:\n{self.tail()}"
            )
            self._start_at = now + self._pause_seconds
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)

    def tail(self) -> str:
        """Return the last lines of its log that are of this run, indented."""
        return "\n".join(f"    {line}" for line in _last_lines(self.plan.log, self._log_start))

    def _last_words(self) -> UnmixError:
        """Return why the process can never work, in its own words."""
        for line in reversed(_last_lines(self.plan.log, self._log_start)):
            if match := _LAST_WORDS.fullmatch(line):
                return UnmixError(match["message"], code=match["code"])
        return UnmixError(f"{self.plan.name} cannot work; its log is {self.plan.log}", code="not_ready")

    def terminate(self) -> None:
        if self._child is not None:
            self._child.terminate()

    def wait(self, deadline: float) -> bool:
        """Wait until the process has ended; False if it still runs at `deadline` (monotonic seconds)."""
        if self._child is not None:
            try:
                self._child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
            self._forget_child()
        return True

    def kill(self) -> None:
        """Kill the process and what it started in its group."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._forget_child()

    def _forget_child(self) -> None:
        assert self._child is not None
        self._note(f"-{self._child.pid}")
        self._child = None


def _last_lines(log: Path, start: int) -> list[str]:
    """Return the last lines of a log that stand behind its byte `start`."""
    with log.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        start = start if start <= size_bytes else 0  # it was begun anew
        file.seek(max(start, size_bytes - TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]


def _rotate(log: Path) -> None:
    """Move what is in a long log into the one before it; its process appends, and so goes on at the new end.

    What is written between the copy and the cut is lost. On a full disk the log is only cut.
    """
    with suppress(FileNotFoundError):
        if log.stat().st_size <= MOST_LOG_BYTES:
            return
        before = log.with_name(f"{log.name}.1")
        try:
            with log.open("rb") as source, open(before, "wb", opener=private) as target:
                shutil.copyfileobj(source, target)
        except OSError:
            before.unlink(missing_ok=True)
        os.truncate(log, 0)


def _describe(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
