"""Puts the stand-in engine in the place of the separating child, from outside the product.

The parent's side of it stays the product's: the pipes, the watch over lease and pace, what is done about crashes.
"""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import chaos
import unmix
import unmix_worker
from chaos.points import Passage
from unmix.runtime.shutdown import Shutdown
from unmix_worker import child_process
from unmix_worker.lease import Lease
from unmix_worker.messages import Event, PartMade, PartsTask, Progress, SeparationTask
from unmix_worker.parts import PartsExchange, PartsHelp
from unmix_worker.separation import Separated, SeparationProcess

MODEL: Final = "stand-in"

#: It finds only our own packages, the very ones that this process uses, so that it starts fast.
_FOLDERS: Final = [str(Path(package.__path__[0]).parent) for package in (chaos, unmix, unmix_worker)]
_PROGRAM: Final = f"import sys; sys.path += {_FOLDERS}; from chaos.stand_in_child import main; main({MODEL!r})"
_CHILD: Final = [sys.executable, "-I", "-S", "-c", _PROGRAM]


def install(passage: Passage) -> type[SeparationProcess]:
    """Let this process start the stand-in where it would start the child, and return what to separate with."""

    class StandInProcess(SeparationProcess):
        """Notes each separation under its token, and passes the point `while_separating`."""

        def separate(
            self, task: SeparationTask | PartsTask, lease: Lease, shutdown: Shutdown, parts: PartsExchange | None = None
        ) -> Separated:
            passage.note("separating")
            assert passage.claim is not None
            song = task.separation.song if isinstance(task, PartsTask) else task.song
            Path(song).with_name("token").write_text(passage.claim.token)
            Path(song).with_name("generation").write_text(str(passage.generation))
            return super().separate(task, lease, shutdown, parts)

        def help(self, task: PartsTask, parts: PartsHelp, shutdown: Shutdown) -> None:
            passage.claim = None  # it has none on the job that it helps with
            passage.note("helping")
            Path(task.separation.song).with_name("generation").write_text(str(passage.generation))
            super().help(task, parts, shutdown)

        def _next_event(self) -> Event | None:
            event = super()._next_event()
            if isinstance(event, Progress):
                passage.reach("while_separating")
            if isinstance(event, PartMade):
                passage.note("part made", part=event.index, song=passage.job_id)
            return event

    def start(_: list[str], **options: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(_CHILD, **options)

    child_process.subprocess = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE)  # type: ignore[assignment, attr-defined]
    return StandInProcess
