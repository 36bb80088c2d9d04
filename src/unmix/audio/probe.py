"""The check of an upload: decode it once, to its end, in a short-lived process with limits.

`Probe` is what REST asks; `main` is that process. What it decodes comes from strangers, so it is told no secret, has
little memory or time, and is shut in (`unmix.confinement`) with the song; whatever becomes of it is an answer about the
song, never a failure of REST. That it cannot look up secrets in REST either is REST's doing (`unmix.runtime.secrecy`),
and holds on Linux. The decoding itself is `unmix.audio.song_reader`, the same as the engine's.
"""

import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NoReturn, cast

from unmix.audio.level import Level, measuring
from unmix.audio.turns import LOOK_SECONDS, Turn, Turns
from unmix.confinement import Sandbox, confine, end_with_parent
from unmix.errors import AudioError, UnmixError

#: Decoding is quick and hungry: two at once keep both cores of a small machine busy.
AT_ONCE: Final = 2
#: What a song may cost whatever its size is, and what more for each MiB of it, in seconds of processor time. An hour of
#: mp3 takes 5 s, of Opus 16 s; what costs as much in a few kB was made to.
_LEAST_CPU_SECONDS: Final = 6
_CPU_SECONDS_PER_MIB: Final = 3
#: Printed once everything is loaded: only what happens later can be the song's fault.
_READY: Final = "ready"
#: Longest report that is read; a true one has some hundred bytes. What a song that has taken the check over says beyond
#: it must not fill REST's memory.
_MOST_REPORT_BYTES: Final = 64 * 1024
#: How long the process may take to end after its last word.
_END_SECONDS: Final = 1
_KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, slots=True)
class ProbedSong:
    """What the check found out about a song that can be separated."""

    duration_seconds: float  # by counted samples
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    level: Level | None = None  # None if it was not measured


class Probe:
    """Checks songs, `AT_ONCE` at a time; further callers wait their turn, and no client holds up the others."""

    def __init__(
        self,
        *,
        min_seconds: float,
        max_seconds: float,
        limit_seconds: float,
        cpu_seconds: float,
        memory_mb: int,
        sandbox: Sandbox = "auto",
    ) -> None:
        self._arguments = [str(min_seconds), str(max_seconds), str(memory_mb), sandbox]
        self._limit_seconds = limit_seconds
        self._cpu_seconds = cpu_seconds
        self._turns = Turns(AT_ONCE, each=AT_ONCE)

    def check(self, path: Path, *, client: str = "", go_on: Callable[[], None] = lambda: None) -> ProbedSong:
        """Decode the song at `path`, which `client` has sent, and return how long and how loud it is.

        `go_on` is called several times a second while the song waits or is decoded; if it raises, the check ends.

        Raises:
            AudioError: it is no song that can be separated; the code says why.
            UnmixError: no check was possible (`probe_unavailable`).
        """
        size_mib = path.stat().st_size / (1 << 20)
        cpu_seconds = math.ceil(min(self._cpu_seconds, _LEAST_CPU_SECONDS + _CPU_SECONDS_PER_MIB * size_mib))
        while True:
            with self._turns.take(client, go_on) as turn:
                run = self._run(path, cpu_seconds, turn, go_on)
            if run is not None:
                return _read(run)

    def _run(
        self, path: Path, cpu_seconds: int, turn: Turn, go_on: Callable[[], None]
    ) -> "subprocess.CompletedProcess[bytes] | None":
        """Run the check; None if its turn was asked back before it ended."""
        command = [sys.executable, "-P", "-B", "-m", "unmix.audio.probe", str(path), str(cpu_seconds), *self._arguments]
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        # OpenBLAS reserves address space for each thread: on a large machine more than the whole limit.
        environment["OPENBLAS_NUM_THREADS"] = "1"
        deadline = time.monotonic() + self._limit_seconds
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C in a terminal goes to the whole group, and the song would be blamed for the check's end.
                start_new_session=True,
            )
        except OSError as error:
            raise UnmixError("no process for the check", code="probe_unavailable", retryable=True) from error
        assert process.stdout is not None
        assert process.stderr is not None
        with process:
            try:
                said = b""
                news = select.poll()
                news.register(process.stdout, select.POLLIN)
                while time.monotonic() < deadline:
                    if news.poll(1000 * LOOK_SECONDS):
                        piece = os.read(process.stdout.fileno(), _MOST_REPORT_BYTES)
                        if not piece:
                            status = process.wait(_END_SECONDS)
                            # Only of a process that has not come to the song: nothing can hold it open then.
                            complaints = b"" if said else process.stderr.read()
                            return subprocess.CompletedProcess(command, status, said, complaints)
                        if not said:
                            turn.begin()  # on a busy machine the process itself takes a second to start
                        said += piece
                        if len(said) > _MOST_REPORT_BYTES:
                            raise AudioError("decoding the song ended in a flood of words")
                    if turn.is_asked_back:
                        return None
                    go_on()
                raise AudioError("the song could not be decoded in time")
            except subprocess.TimeoutExpired as error:
                raise AudioError("decoding the song came to no end") from error
            finally:
                process.kill()


def _read(run: "subprocess.CompletedProcess[bytes]") -> ProbedSong:
    ready, _, report = run.stdout.decode(errors="replace").partition("\n")
    if ready != _READY:
        complaints = run.stderr.decode(errors="replace")[-500:]
        raise UnmixError(f"the check did not start: {complaints}", code="probe_unavailable", retryable=True)
    if run.returncode == -signal.SIGXCPU:
        raise AudioError("the song takes more processor time to decode than is reasonable", code="too_costly")
    if run.returncode != 0 or not report.strip():
        raise AudioError("decoding the song ended in a crash or at a limit")
    try:
        fields = json.loads(report)
        if "code" in fields:
            raise AudioError(fields["message"], code=fields["code"])
        level = Level(**fields["level"]) if "level" in fields else None
        return ProbedSong(fields["duration_seconds"], tuple(fields["warnings"]), tuple(fields["notes"]), level)
    except (ValueError, TypeError, LookupError) as error:  # a song has taken it over
        raise AudioError("decoding the song ended in nonsense") from error


def main() -> NoReturn:
    """Check one song; arguments: path, CPU time in s, shortest and longest song in s, address space in MiB, sandbox."""
    from unmix.audio.song_reader import measure  # here, so that REST does not load the decoder

    end_with_parent()
    path, cpu_seconds, min_seconds, max_seconds, memory_mb, sandbox = sys.argv[1:]
    song = os.fdopen(os.open(path, os.O_RDONLY), "rb")
    measuring()  # it reads files, which it cannot later
    _limit(resource.RLIMIT_AS, int(memory_mb) << 20)
    # What was spent until here was not for the song. The soft limit says by its signal what has ended the process.
    spent_seconds = math.ceil(time.process_time())
    _limit(resource.RLIMIT_CPU, spent_seconds + int(cpu_seconds), more=1)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    confine(cast(Sandbox, sandbox))
    print(_READY, flush=True)
    try:
        info = measure(song, min_seconds=float(min_seconds), max_seconds=float(max_seconds))
    except AudioError as error:
        report: dict[str, object] = {"code": error.code, "message": error.message}
    else:
        report = {
            "duration_seconds": info.duration_seconds,
            "warnings": info.warnings,
            "notes": info.notes,
            "level": asdict(info.level),
        }
    print(json.dumps(report), flush=True)
    os._exit(0)  # a decoder that read hostile bytes need not be taken down in order


def _limit(kind: int, most: int, *, more: int = 0) -> None:
    with suppress(ValueError, OSError):  # macOS knows no limit of the address space; a lower one may stand already
        resource.setrlimit(kind, (most, most + more))


if __name__ == "__main__":
    main()
