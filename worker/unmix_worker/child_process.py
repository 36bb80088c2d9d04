"""One separating child as a process: started, told what to do, listened to, watched, and ended.

What it is asked for is `unmix_worker.separation`'s. Here it is found out why a child has ended: by itself, by a kill,
or for want of memory, which is no fault of its song.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Final

from unmix.errors import DeviceError, EngineError, ModelUnavailableError, OutOfMemoryError
from unmix.resources import memory_kills
from unmix_worker.environment import child_environment
from unmix_worker.memory import MemoryWatch
from unmix_worker.messages import Event, Failed, Order, decode_event, encode

#: How long to wait for a child's next word before the caller looks at something else, in seconds.
TICK_SECONDS: Final = 0.2
#: Errors that the child names by their codes, and that are told apart here.
_KINDS: Final = {kind.code: kind for kind in (ModelUnavailableError, OutOfMemoryError, DeviceError)}


class CrashedError(EngineError):
    """The child died or had to be killed over a song."""

    code = "engine_crashed"
    retryable = True


class MemoryExceededError(OutOfMemoryError):
    """The child was ended as it took too much memory, by its parent or by the kernel; another worker may have more."""

    code = "memory_exceeded"


class ChildProcess:
    """A child that runs from the construction on; with `room_bytes` it is killed if it takes more memory."""

    def __init__(self, room_bytes: int | None) -> None:
        self._room_bytes = room_bytes
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._kills = memory_kills()  # so many were there before
        self._process = subprocess.Popen(
            [sys.executable, "-m", "unmix_worker.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
            # Ctrl-C in a terminal goes to the whole group: the parent decides when the child stops.
            start_new_session=True,
        )
        threading.Thread(target=_read_lines, args=(self._process, self._lines), daemon=True).start()
        self._watch = None if room_bytes is None else MemoryWatch(self.pid, room_bytes, self._kill)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def send(self, order: Order) -> None:
        """Tell it what to do.

        Raises:
            CrashedError: it has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(order))
            self._process.stdin.flush()
        except OSError as error:
            raise CrashedError("the separating process has ended") from error

    def next_event(self) -> Event | None:
        """Return its next event, None for one that is not known or after `TICK_SECONDS`.

        Raises:
            EngineError: what it says has failed, by its code (`ModelUnavailableError`, `OutOfMemoryError`,
                `DeviceError`).
            MemoryExceededError: it has ended, or has failed, for want of memory.
            CrashedError: it has ended otherwise, or says what nobody understands.
        """
        try:
            line = self._lines.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return None
        if line is None:
            raise self._crashed()
        try:
            event = decode_event(line)
        except ValueError as error:
            raise CrashedError(f"the separating process said what nobody understands: {error}") from error
        if isinstance(event, Failed):
            if self._was_killed_for_memory:  # what it has started: a codec's end looks like damage to the song
                raise MemoryExceededError(
                    f"the system killed a process for want of memory; after that: {event.message}"
                )
            raise _KINDS.get(event.code, EngineError)(event.message, code=event.code, retryable=event.retryable)
        return event

    def close(self) -> None:
        """End it, and what it has started."""
        if self._watch is not None:
            self._watch.close()
        self._kill()
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # what it did not read any more
            self._process.stdin.close()

    def _kill(self) -> None:
        """Kill the child and what it has started; it leads a session, and so a group, of its own."""
        if self._process.returncode is None:  # else the number may be another's
            with suppress(ProcessLookupError, PermissionError):  # macOS refuses where only a zombie is left
                os.killpg(self.pid, signal.SIGKILL)

    @property
    def _was_killed_for_memory(self) -> bool:
        """Whether the kernel has killed a process beside us since the child was started."""
        kills = memory_kills()
        return kills is not None and self._kills is not None and kills > self._kills

    def _crashed(self) -> EngineError:
        """Return why it has ended."""
        if self._watch is not None and self._watch.exceeded:
            assert self._room_bytes is not None
            return MemoryExceededError(
                f"the separating process took more than {self._room_bytes >> 20} MiB of memory and was ended"
            )
        status = self._process.wait()
        if status == -signal.SIGKILL and self._was_killed_for_memory:
            return MemoryExceededError("the system killed the separating process for want of memory")
        return CrashedError(f"the separating process {_ended(status)}")


def _ended(status: int) -> str:
    """Say how a process has ended, and of what is done to processes without a word, why that mostly is."""
    if status >= 0:
        return f"ended with status {status}"
    if -status == signal.SIGKILL:
        return "was killed (SIGKILL), as the system does where memory runs out"
    return f"was ended by {signal.Signals(-status).name}"


def _read_lines(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(None)
