"""The gate as a process: the nginx of this machine, with the configuration that is made of settings."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import requests

from programs import program
from rest_process import RestProcess
from support import PATIENCE_SECONDS, eventually, free_port

#: What REST has to be told to be behind it, and by which names it is asked for here.
BEHIND_GATE = {"UNMIX_TRUSTED_PROXY": "127.0.0.1", "UNMIX_OPEN": "yes", "UNMIX_HOSTS": "gate,a,songs.test"}


def need_nginx() -> str:
    """Return the path of nginx, or end the test as this machine should."""
    return program("nginx", package="nginx")


def write_config(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Let the command write the gate's configuration into a folder."""
    return subprocess.run(
        [sys.executable, "-m", "unmix_rest.gate", str(folder)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )


class GateProcess:
    """nginx before `rest`, on a free port; `times` of its configuration can be other ones, for tests that are quick."""

    def __init__(self, rest: RestProcess, folder: Path, times: Mapping[str, str], **settings: str) -> None:
        self.rest, self.folder, self.port = rest, folder, free_port()
        scheme = "https" if "UNMIX_GATE_CERTIFICATE" in settings else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        defaults = {"UNMIX_GATE_HOST": "127.0.0.1", "UNMIX_GATE_PORT": str(self.port), "UNMIX_PORT": str(rest.port)}
        written = write_config(folder, **defaults | settings)
        assert written.returncode == 0, written.stderr
        config = folder / "nginx.conf"
        for name, value in times.items():
            changed, count = re.subn(rf"\b{name} \w+;", f"{name} {value};", config.read_text())
            assert count == 1
            config.write_text(changed)
        self.log, self.errors = folder / "access.log", folder / "errors.log"
        with self.log.open("ab") as log, self.errors.open("ab") as errors:
            command = [need_nginx(), "-e", "stderr", "-c", str(config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=errors)
        eventually(self._answers, "the gate answers", explain=self.errors.read_text)

    def connect(self, address: str = "127.0.0.1", *, buffer_bytes: int = 0) -> socket.socket:
        """Connect from an address of this machine, with a small buffer for what comes if one is named."""
        peer = socket.socket()
        if buffer_bytes:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        peer.settimeout(PATIENCE_SECONDS)
        peer.bind((address, 0))
        peer.connect(("127.0.0.1", self.port))
        return peer

    def get(self, path: str, **arguments: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=PATIENCE_SECONDS, **arguments)

    def post(self, path: str, **arguments: Any) -> requests.Response:
        return requests.post(self.url + path, timeout=PATIENCE_SECONDS, **arguments)

    def logged(self) -> list[dict[str, str]]:
        """Return what the access log says of each request that is over."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def kept_bytes(self) -> int:
        """Return how much of bodies and answers lies on the disk, files without a name included."""
        total = 0
        for children in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            for link in Path(f"/proc/{children}/fd").iterdir():
                try:
                    if os.readlink(link).startswith(str(self.folder)) and not os.readlink(link).endswith(".log"):
                        total += link.stat().st_size
                except FileNotFoundError:
                    continue
        return total

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=PATIENCE_SECONDS)

    def _answers(self) -> bool:
        with socket.socket() as peer:
            return peer.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def gate_before(
    rest: RestProcess, times: Mapping[str, str] = MappingProxyType({}), **settings: str
) -> Iterator[GateProcess]:
    """Start the gate; its workers are nobody's where root starts it, so its folder is one that all may look into."""
    need_nginx()
    with tempfile.TemporaryDirectory(prefix="unmix-gate-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        gate = GateProcess(rest, Path(folder), times, **settings)
        try:
            yield gate
        finally:
            gate.stop()
