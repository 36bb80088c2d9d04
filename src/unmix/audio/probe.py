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
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NoReturn, cast

from unmix.audio.level import Level, measuring
from unmix.confinement import Sandbox, confine, end_with_parent
from unmix.errors import AudioError, UnmixError

#: Decoding is quick and hungry: two at once keep both cores of a small machine busy.
AT_ONCE: Final = 2
#: Printed once everything is loaded: only what happens later can be the song's fault.
_READY: Final = "ready"
_KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True, slots=True)
class ProbedSong:
    """What the check found out about a song that can be separated."""

    duration_seconds: float  # by counted samples
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    level: Level | None = None  # None if it was not measured


class Probe:
    """Checks songs, `AT_ONCE` at a time; further callers wait their turn."""

    def __init__(
        self,
        *,
        min_seconds: float,
        max_seconds: float,
        limit_seconds: float,
        memory_mb: int,
        sandbox: Sandbox = "auto",
    ) -> None:
        limits = [str(min_seconds), str(max_seconds), str(math.ceil(limit_seconds)), str(memory_mb)]
        self._arguments = [*limits, sandbox]
        self._limit_seconds = limit_seconds
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def check(self, path: Path) -> ProbedSong:
        """Decode the song at `path` and return how long and how loud it is.

        Raises:
            AudioError: it is no song that can be separated; the code says why.
            UnmixError: no check was possible (`probe_unavailable`).
        """
        command = [sys.executable, "-P", "-B", "-m", "unmix.audio.probe", str(path), *self._arguments]
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        # OpenBLAS reserves address space for each thread: on a large machine more than the whole limit.
        environment["OPENBLAS_NUM_THREADS"] = "1"
        with self._turns:
            try:
                run = subprocess.run(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=self._limit_seconds,
                    # Ctrl-C in a terminal goes to the whole group, and the song would be blamed for the check's end.
                    start_new_session=True,
                )
            except subprocess.TimeoutExpired as error:
                raise AudioError("the song could not be decoded in time") from error
            except OSError as error:
                raise UnmixError("no process for the check", code="probe_unavailable", retryable=True) from error
        return _read(run)


def _read(run: "subprocess.CompletedProcess[str]") -> ProbedSong:
    ready, _, report = run.stdout.partition("\n")
    if ready != _READY:
        raise UnmixError(f"the check did not start: {run.stderr[-500:]}", code="probe_unavailable", retryable=True)
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
    """Check one song; arguments: path, shortest and longest song in s, CPU time in s, address space in MiB, sandbox."""
    from unmix.audio.song_reader import measure  # here, so that REST does not load the decoder

    end_with_parent()
    path, min_seconds, max_seconds, cpu_seconds, memory_mb, sandbox = sys.argv[1:]
    song = os.fdopen(os.open(path, os.O_RDONLY), "rb")
    measuring()  # it reads files, which it cannot later
    _limit(resource.RLIMIT_AS, int(memory_mb) << 20)
    _limit(resource.RLIMIT_CPU, int(cpu_seconds))
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


def _limit(kind: int, most: int) -> None:
    with suppress(ValueError, OSError):  # macOS knows no limit of the address space; a lower one may stand already
        resource.setrlimit(kind, (most, most))


if __name__ == "__main__":
    main()
