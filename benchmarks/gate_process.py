"""The gate as a process of this machine, before a REST of `benchmarks.processes`."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.processes import started, wait_until
from unmix.local.local import free_port

#: Debian has it where only root looks.
_NGINX: Final = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
#: What REST has to be told to be behind it.
BEHIND_GATE: Final = {"UNMIX_TRUSTED_PROXY": "127.0.0.1", "UNMIX_OPEN": "yes"}


@contextmanager
def gate(rest_port: int, log: Path, **settings: str) -> Iterator[int]:
    """Run nginx before the REST at a port, what it says into `log`, and yield the port where it listens.

    Raises:
        RuntimeError: there is no nginx here.
    """
    if _NGINX is None:
        raise RuntimeError("there is no nginx: apt-get install nginx")
    port = free_port()
    ports = {"UNMIX_GATE_HOST": "127.0.0.1", "UNMIX_GATE_PORT": str(port), "UNMIX_PORT": str(rest_port)}
    with tempfile.TemporaryDirectory(prefix="unmix-gate-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # nginx' workers are nobody's where root starts it
        command = [sys.executable, "-m", "unmix_rest.gate", folder]
        subprocess.run(command, env=os.environ | ports | settings, stdout=subprocess.DEVNULL, check=True)
        with started([_NGINX, "-e", "stderr", "-c", f"{folder}/nginx.conf"], log):
            wait_until(lambda: _listens(port), "the gate listens")
            yield port


def _listens(port: int) -> bool:
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) == 0
