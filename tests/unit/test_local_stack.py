"""What local mode says of its workers, of which only the heartbeats are there."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from unmix.local.local import LocalPlan, LocalStack
from unmix.local.supervisor import Supervisor


def test_it_is_said_when_no_worker_is_ready_any_more_and_when_one_is_again(tmp_path: Path) -> None:
    plan = LocalPlan(tmp_path, port=5000, workers=2, model="demo")
    first, second = plan.heartbeat(1), plan.heartbeat(2)
    first.parent.mkdir()
    said: list[str] = []
    supervisor = cast(Supervisor, SimpleNamespace(check=lambda: None))
    stack = LocalStack(plan, "redis://localhost", supervisor, said.append)
    for heartbeat in (first, second):
        heartbeat.touch()
    stack.check()
    first.unlink()
    stack.check()
    assert said == []  # the other one serves
    second.unlink()
    stack.check()
    stack.check()
    (line,) = said
    assert line.startswith("no worker is ready: songs wait until one has started again")
    assert str(plan.logs) in line
    first.touch()
    stack.check()
    assert said[1:] == ["a worker is ready again"]
