"""Whatever starts the tests, they find the same environment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: What breaks tests where it is inherited, or lets them reach what is not theirs.
HOSTILE = {
    "BASH_ENV": "/dev/full",
    "CDPATH": "/",
    "CI": "true",
    "COLUMNS": "20",
    "FORCE_COLOR": "1",
    "HF_HOME": "/nowhere",
    "http_proxy": "http://127.0.0.1:1",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "KUBECONFIG": "/nowhere",
    "LANG": "tlh_XX.ISO-8859-15",
    "LC_ALL": "tlh_XX.ISO-8859-15",
    "MAKEFLAGS": "--dry-run",
    "MINIO_HOST": "minio.invalid:9000",
    "PYTHONHASHSEED": "1",
    "REDIS_HOST": "redis.invalid",
    "REGISTRY": "registry.invalid",
    "TZ": "Pacific/Kiritimati",
    "UNMIX_LEASE_SECONDS": "soon",
    "XDG_CACHE_HOME": "/nowhere",
}
#: Starts its arguments as `nohup make test &` in a script would, and worse.
NOHUP = "trap '' HUP INT QUIT TERM; umask 077; exec \"$@\""
#: Says which signals are ignored in a process that tests start.
IGNORED = "import signal; print(*[s.name for s in signal.Signals if signal.getsignal(s) is signal.SIG_IGN])"


def test_a_test_and_what_it_starts_inherit_nothing_that_decides_how_it_ends(tmp_path: Path) -> None:
    assert {name for name in HOSTILE if name in os.environ} == {"LC_ALL", "TZ"}
    assert os.environ["LC_ALL"] != HOSTILE["LC_ALL"]
    assert time.localtime(0).tm_hour == 0
    assert Path.home().name.startswith("unmix-tests-home-")
    (tmp_path / "file").touch()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    done = subprocess.run([sys.executable, "-c", IGNORED], capture_output=True, text=True, check=True)
    assert not {"SIGINT", "SIGQUIT", "SIGTERM"} & set(done.stdout.split())


@pytest.mark.parametrize("options", [[], ["-n", "1"]], ids=["one process", "xdist"])
def test_so_it_is_behind_nohup_and_with_the_variables_of_a_deployment(options: list[str]) -> None:
    test = f"{__file__}::{test_a_test_and_what_it_starts_inherit_nothing_that_decides_how_it_ends.__name__}"
    command = ["sh", "-c", NOHUP, "sh", sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, test]
    done = subprocess.run(command, env=os.environ | HOSTILE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
