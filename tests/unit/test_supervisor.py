"""The supervisor of local mode, on real processes."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import eventually, is_alive
from unmix.errors import UnmixError
from unmix.local import supervisor
from unmix.local.supervisor import ProcessPlan, Supervisor


class Stage:
    """Makes plans of small Python programs that share one folder, and hears what the supervisor says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def plan(self, name: str, program: str, *, shutdown_seconds: float = 20) -> ProcessPlan:
        """A process called `name` whose program sees its name as `name` and the folder as `folder`."""
        prelude = f"import os, signal, subprocess, sys, time\nname = {name!r}\nfolder = {str(self.folder)!r}\n"
        command = [sys.executable, "-c", prelude + program]
        return ProcessPlan(name, command, os.environ, self.folder / f"{name}.log", shutdown_seconds)

    def supervise(self, *plans: ProcessPlan) -> Supervisor:
        """A supervisor of `plans`, one stage each."""
        return Supervisor([[plan] for plan in plans], say=self.said.append)

    def read(self, name: str) -> str:
        """The text of a file in the folder, empty if there is none yet."""
        with suppress(FileNotFoundError):
            return (self.folder / name).read_text()
        return ""

    def pids(self) -> list[int]:
        """The process that `STAYS` is, and its child."""
        return [int(pid) for pid in self.read("pids").split()]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_SECONDS", 0.2)


DIES = "print('the last words of', name); sys.exit(3)"
#: Ends on SIGTERM, and says so in the shared file `ended`.
ENDS = """
def end(*_):
    open(folder + "/ended", "a").write(name + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(folder + "/" + name + ".up", "w").write(str(os.getpid()))
while True:
    time.sleep(0.05)
"""
#: Ignores SIGTERM, and has a child that does too.
STAYS = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "100"], preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
open(folder + "/pids.part", "w").write(f"{os.getpid()} {child.pid}")
os.rename(folder + "/pids.part", folder + "/pids")
while True:
    time.sleep(0.05)
"""


@pytest.mark.usefixtures("short_pauses")
def test_what_dies_is_started_again_after_pauses_that_double_up_to_a_limit(stage: Stage) -> None:
    with stage.supervise(stage.plan("rest", DIES)) as supervisor_:
        supervisor_.start()
        eventually(lambda: len(stage.said) >= 4, "it has died often enough", meanwhile=supervisor_.check)
    pauses = [re.findall(r"again in (\S+) s", text)[0] for text in stage.said[:4]]
    assert pauses == ["0.05", "0.1", "0.2", "0.2"]


#: Writes lines and then stays.
WRITES = """
for number in range(3000):
    print(number, flush=True)
open(folder + "/written", "w").write("")
while not os.path.exists(folder + "/more"):
    time.sleep(0.02)
print("the end", flush=True)
open(folder + "/ended", "w").write("")
time.sleep(600)
"""


def test_a_long_log_is_begun_anew_and_the_one_before_is_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MOST_LOG_BYTES", 1000)
    monkeypatch.setattr(supervisor, "LOG_LOOK_SECONDS", 0)
    with stage.supervise(stage.plan("rest", WRITES, shutdown_seconds=0)) as supervisor_:
        supervisor_.start()
        eventually(lambda: (stage.folder / "written").exists(), "it has written")
        supervisor_.check()
        assert stage.read("rest.log") == ""
        assert stage.read("rest.log.1").splitlines()[-1] == "2999"
        (stage.folder / "more").touch()
        eventually(lambda: (stage.folder / "ended").exists(), "it has written more")
        supervisor_.check()
        assert stage.read("rest.log") == "the end\n"
        assert {path.stat().st_mode & 0o077 for path in stage.folder.glob("rest.log*")} == {0}
        assert (stage.folder / "written").stat().st_mode & 0o077 == 0, "what its processes make is private too"


@pytest.mark.usefixtures("short_pauses")
def test_a_long_life_resets_the_pause(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LONG_LIFE_SECONDS", 0)
    with stage.supervise(stage.plan("rest", DIES)) as supervisor_:
        supervisor_.start()
        eventually(lambda: len(stage.said) >= 3, "it has died often enough", meanwhile=supervisor_.check)
    assert [re.findall(r"again in (\S+) s", text)[0] for text in stage.said[:3]] == ["0.05"] * 3


@pytest.mark.usefixtures("short_pauses")
def test_a_death_is_reported_with_its_status_and_the_end_of_the_log(stage: Stage) -> None:
    with stage.supervise(stage.plan("rest", DIES)) as supervisor_:
        supervisor_.start()
        eventually(lambda: stage.said, "its death is reported", meanwhile=supervisor_.check)
    assert "rest ended with status 3" in stage.said[0]
    assert "the last words of rest" in stage.said[0]


def test_stages_end_in_the_reverse_order_of_their_start(stage: Stage) -> None:
    names = ("redis", "rest", "worker")
    with stage.supervise(*(stage.plan(name, ENDS) for name in names)) as supervisor_:
        supervisor_.start()
        eventually(lambda: all(stage.read(f"{name}.up") for name in names), "all are up")
    assert stage.read("ended").split() == ["worker", "rest", "redis"]
    assert stage.said == []


def test_what_ignores_sigterm_is_killed_with_its_children(stage: Stage) -> None:
    with stage.supervise(stage.plan("worker", STAYS, shutdown_seconds=0.2)) as supervisor_:
        supervisor_.start()
        eventually(lambda: stage.read("pids"), "it runs")
    eventually(lambda: not any(map(is_alive, stage.pids())), "all have ended")
    assert stage.said == ["worker did not end within 0.2 s: killed"]


def test_a_second_ctrl_c_kills_what_does_not_end(stage: Stage) -> None:
    interrupt = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    plan = stage.plan("worker", STAYS, shutdown_seconds=1000)
    with suppress(KeyboardInterrupt), stage.supervise(plan) as supervisor_:
        supervisor_.start()
        eventually(lambda: stage.read("pids"), "it runs")
        interrupt.start()
    eventually(lambda: not any(map(is_alive, stage.pids())), "all have ended")


#: A supervisor in a process of its own, to be killed.
SUPERVISOR = """
import fcntl, os, pathlib, sys, time
from unmix.local.supervisor import ProcessPlan, Supervisor
folder = pathlib.Path(sys.argv[1])
lock = open(folder / "lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
plan = ProcessPlan("worker", [sys.executable, "-c", sys.argv[2]], os.environ, folder / "worker.log", 20)
with Supervisor([[plan]], say=print, held_files=[lock.fileno()]) as supervisor:
    (folder / "guard").write_text(str(supervisor._guard.pid))
    supervisor.start()
    while True:
        supervisor.check()
        time.sleep(0.05)
"""


@dataclass
class KilledSupervisor:
    """What a supervisor left behind when it was killed, its guard held still for the moment."""

    guard: int
    orphans: list[int]

    def let_the_guard_go_on(self) -> None:
        os.kill(self.guard, signal.SIGCONT)


@pytest.fixture
def killed_supervisor(stage: Stage) -> Iterator[KilledSupervisor]:
    program = stage.plan("worker", STAYS).command[2]
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(stage.folder), program])
    eventually(lambda: stage.read("pids"), "it runs")
    killed = KilledSupervisor(int(stage.read("guard")), stage.pids())
    os.kill(killed.guard, signal.SIGSTOP)
    process.kill()
    process.wait()
    yield killed
    for pid in (killed.guard, *killed.orphans):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(30)
def test_a_killed_supervisor_leaves_no_orphans(killed_supervisor: KilledSupervisor) -> None:
    killed_supervisor.let_the_guard_go_on()
    eventually(lambda: not any(map(is_alive, killed_supervisor.orphans)), "all have ended")


@pytest.mark.timeout(30)
def test_held_files_stay_open_until_the_last_orphan_is_dead(stage: Stage, killed_supervisor: KilledSupervisor) -> None:
    with (stage.folder / "lock").open() as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        killed_supervisor.let_the_guard_go_on()
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits
    assert not any(is_alive(pid) for pid in killed_supervisor.orphans)


#: Says as the worker does that it can never work; what it logged before, and in an earlier run, is not told.
NEVER_WORKS = """
from unmix.errors import ModelUnavailableError
from unmix.runtime.last_words import last_words
print("a line before")
sys.exit(last_words(ModelUnavailableError("there is no such model. Choose another")))
"""


def test_a_process_that_can_never_work_ends_all_with_its_own_words(stage: Stage) -> None:
    (stage.folder / "worker.log").write_text("error: of an earlier run (old)\n")
    with stage.supervise(stage.plan("rest", ENDS), stage.plan("worker", NEVER_WORKS)) as supervisor_:
        supervisor_.start()
        with pytest.raises(UnmixError) as caught:
            eventually(lambda: None, "it gives up", meanwhile=supervisor_.check)
    assert (caught.value.message, caught.value.code) == ("there is no such model. Choose another", "model_unavailable")
    assert stage.said == []


def test_of_a_log_only_what_this_run_wrote_is_shown(stage: Stage) -> None:
    (stage.folder / "rest.log").write_text("of an earlier run\n" * 3)
    with stage.supervise(stage.plan("rest", DIES)) as supervisor_:
        supervisor_.start()
        eventually(lambda: stage.said, "its death is reported", meanwhile=supervisor_.check)
    assert "earlier" not in stage.said[0]
    assert "the last words of rest" in stage.said[0]


@pytest.mark.usefixtures("short_pauses")
def test_what_dies_at_the_first_start_again_and_again_is_given_up(stage: Stage) -> None:
    with stage.supervise(stage.plan("rest", DIES)) as supervisor_:
        supervisor_.start()
        with pytest.raises(UnmixError, match="rest ended 5 times at its start") as caught:
            eventually(lambda: None, "it gives up", meanwhile=supervisor_.check_first_start)
    assert "the last words of rest" in caught.value.message
