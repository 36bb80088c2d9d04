"""`make chaos` in small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_scenario_holds_its_claims() -> None:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "chaos", "--quick"]
    run = subprocess.run(command, cwd=tests.parent, env={**os.environ, "PYTHONPATH": str(tests)})
    assert run.returncode == 0
