"""What the processes that decode strangers' songs can find out about those that know how to log in somewhere.

Nothing here has a capability, like any process of an ordinary user: root would be let in by those that it has.
"""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from support import free_port, make_song

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and hides processes there")

#: Every wait ends after so many seconds, on however busy a machine.
PATIENCE_SECONDS = 90
SECRET = "nobody-is-to-read-this"

#: Runs the rest of the command line without any capability.
PLAINLY = """
import ctypes, os, sys
for capability in range(64):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""

#: Prints as JSON what can be read of the processes in the arguments, by their ids.
READER = """
import json, sys
from contextlib import suppress
found = {}
for pid in sys.argv[1:]:
    found[pid] = {}
    for name in ("environ", "mem"):
        with suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
            found[pid][name] = file.read().decode(errors="replace") if name == "environ" else "opened"
print(json.dumps(found))
"""

#: Runs a module of the product, which starts this instead of a child that runs a certain module.
WITH_A_SPY = """
import runpy, subprocess, sys
module, child, report = sys.argv[1:]

class Spy(subprocess.Popen):
    def __init__(self, command, **options):
        super().__init__([sys.executable, "-c", SPY, report] if child in command else command, **options)

SPY = '''
import json, os, subprocess, sys
found = subprocess.check_output([sys.executable, "-c", READER, str(os.getppid())], text=True)
with open(sys.argv[1] + ".part", "w") as file:
    json.dump({"own": dict(os.environ), "parent": json.loads(found)[str(os.getppid())]}, file)
os.rename(sys.argv[1] + ".part", sys.argv[1])
'''.replace("READER", repr(READER))

subprocess.Popen = Spy
sys.argv = [module]
runpy.run_module(module, run_name="__main__")
""".replace("repr(READER)", repr(repr(READER)))


@contextmanager
def running(*command: str, log: Path, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run Python with `command` and the secret in its environment."""
    environment = {**os.environ, "UNMIX_STORE_SECRET_KEY": SECRET, **settings}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-c", PLAINLY, *command], env=environment, stdout=output, stderr=output
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def eventually(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def readable(*pids: int) -> dict[str, dict[str, str]]:
    """Return what a process of this user can read of others."""
    command = [sys.executable, "-c", PLAINLY, "-c", READER, *map(str, pids)]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_the_separating_child_finds_no_secret_in_its_parent_nor_in_itself(redis_url: str, tmp_path: Path) -> None:
    report, log = tmp_path / "report", tmp_path / "log"
    settings = {"UNMIX_REDIS_URL": redis_url, "UNMIX_STORE_URL": f"file://{tmp_path}/store", "UNMIX_MODEL": "demo"}
    with running(
        "-c", WITH_A_SPY, "unmix_worker", "unmix_worker.child", str(report), log=log, HF_TOKEN=SECRET, **settings
    ):
        eventually(report.exists, log)
    found = json.loads(report.read_text())
    assert found["parent"] == {}
    assert SECRET not in str(found["own"])
    assert found["own"]["UNMIX_MODEL"] == "demo"


def test_the_check_of_an_upload_finds_no_secret_in_its_parent_nor_in_itself(redis_url: str, tmp_path: Path) -> None:
    report, log, port = tmp_path / "report", tmp_path / "log", free_port()
    settings = {"UNMIX_REDIS_URL": redis_url, "UNMIX_STORE_URL": f"file://{tmp_path}/store", "UNMIX_PORT": str(port)}
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return requests.get(f"{url}/healthz", timeout=10).ok
        except requests.ConnectionError:
            return False

    with running("-c", WITH_A_SPY, "unmix_rest", "unmix.audio.probe", str(report), log=log, **settings):
        eventually(is_ready, log)
        song = base64.b64encode(make_song(1, seed=1)).decode()
        answer = requests.post(f"{url}/apiv1/separate", json={"mp3": song}, timeout=60)
        assert answer.json()["code"] == "probe_unavailable"  # the spy checks no songs
    found = json.loads(report.read_text())
    assert found["parent"] == {}
    assert SECRET not in str(found["own"])


@pytest.mark.parametrize("command", ["janitor", "logs"])
def test_the_other_processes_that_log_in_somewhere_cannot_be_read_either(command: str, tmp_path: Path) -> None:
    log, away = tmp_path / "log", f"redis://127.0.0.1:{free_port()}"  # they wait for it
    settings = {"UNMIX_REDIS_URL": away, "UNMIX_STORE_URL": f"file://{tmp_path}/store"}
    with running("-m", "unmix.cli", command, log=log, **settings) as process:
        eventually(lambda: readable(process.pid) == {str(process.pid): {}}, log)
        assert process.poll() is None


def test_of_a_whole_local_service_no_process_shows_a_secret(tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = ("--model", "demo", "--workers", "1", "--port", "0", "--data-dir", str(tmp_path / "data"))
    with running("-m", "unmix.cli", "local", *options, log=log, UNMIX_BACKEND="torch") as local:
        eventually(lambda: "Track-Unmix serves at" in log.read_text(), log)
        family = [local.pid, *(process.pid for process in psutil.Process(local.pid).children(recursive=True))]
        found = readable(*family)
    assert len(family) == 7  # itself, its guard, Redis, REST, the janitor, a worker and its child
    assert len(found) == len(family)
    shown = [environment for of in found.values() if (environment := of.get("environ"))]
    assert len(shown) == 2  # those of Redis and of the child, which know none
    assert SECRET not in str(shown)
    assert "UNMIX_REDIS_PASSWORD" not in str(shown)
