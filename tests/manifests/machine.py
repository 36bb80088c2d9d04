"""A machine for the scripts of a deployment: a clone of the project, and stand-ins of kubectl and the like.

The stand-ins record what is asked of them, and answer what they are told to.
"""

import base64
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from manifests.rendering import ROOT
from support import free_port, is_alive

STAND_INS = Path(__file__).parent / "stand_ins"
#: All of the system that the scripts use.
SYSTEM = [
    "bash",
    "sh",
    "env",
    "cat",
    "sed",
    "grep",
    "tail",
    "tr",
    "od",
    "base64",
    "mkdir",
    "mv",
    "rm",
    "paste",
    "sleep",
    "dirname",
    *([] if Path("/proc/self/cmdline").exists() else ["ps"]),
]
EVERYBODY = ("redis", "rest", "worker", "janitor", "logs", "object_store")
#: When Secrets were changed, and since when processes run, as the API tells it.
EARLY, LATE = "2026-11-23T00:00:00Z", "2026-11-23T06:00:00Z"
TOOLS = ["make", "docker", "podman", "kind", "minikube", "k3d", "python3"]


class Machine:
    """A machine with a clone of the project, tools that record how they are called, and a cluster of kind."""

    def __init__(self, folder: Path) -> None:
        self.world = folder / "world"
        self.clone = folder / "clone"
        self._bin = folder / "bin"
        for made in (self.world, self.clone, self._bin):
            made.mkdir()
        for name in ("k8s", "minio", "redis", "src", "pyproject.toml", "sample-requests.py"):
            (self.clone / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "deploy-local-dev.sh", self.clone)
        for name in SYSTEM:
            (self._bin / name).symlink_to(str(shutil.which(name)))
        (self._bin / "kubectl").symlink_to(STAND_INS / "kubectl.sh")
        for name in TOOLS:
            (self._bin / name).symlink_to(STAND_INS / "tool.sh")
        self.tell(contexts="gke_prod\nkind-unmix\n", context="kind-unmix\n", version="Server Version: v1.36.2\n")
        self.tell(**{"overlay": '  UNMIX_OPEN: "yes"\n  namespace: minio-ns\n', "image-ids": "sha256:1\n"})
        self.ports = {name: free_port() for name in ("rest", "redis", "store")}
        self.environment = {"PATH": str(self._bin), "WORLD": str(self.world), "HOME": str(folder)}

    def tell(self, **answers: str) -> None:
        """Let the stand-ins answer something else from now on."""
        for name, text in answers.items():
            (self.world / name).write_text(text)

    def forget(self, *names: str) -> None:
        for name in names:
            (self.world / name).unlink()

    def without(self, *names: str) -> None:
        """Take tools away."""
        for name in names:
            (self._bin / name).unlink()

    def record(self, name: str) -> None:
        """Put a stand-in in the place of a tool of the system."""
        self.without(name)
        (self._bin / name).symlink_to(STAND_INS / "tool.sh")

    def command(self, *options: str) -> list[str]:
        ports = [part for name, port in self.ports.items() for part in (f"--{name}-port", str(port))]
        # Not by itself: nothing can be executed in some temporary folders.
        return [str(self._bin / "bash"), str(self.clone / "deploy-local-dev.sh"), *ports, *options]

    def deploy(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the script to its end. Its port-forwards keep standard output open, so that goes to a file."""
        said = self.world / "said"
        with said.open("w+") as output:
            done = subprocess.run(
                self.command(*options),
                env=self.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
            )
            output.seek(0)
            done.stdout = output.read()
        return done

    @property
    def ran(self) -> list[str]:
        """What was called that changes something, in order."""
        record = self.world / "ran"
        return record.read_text().splitlines() if record.exists() else []

    def secrets(self) -> dict[tuple[str, str], dict[str, str]]:
        """The values of all Secrets in the cluster, by namespace and name."""
        found = {}
        for file in self.world.glob("secret-*"):
            manifest = yaml.safe_load(file.read_text())
            values = manifest.get("stringData") or {
                key: base64.b64decode(value).decode() for key, value in manifest["data"].items()
            }
            found[manifest["metadata"]["namespace"], manifest["metadata"]["name"]] = values
        return found

    def forwards(self) -> list[int]:
        """The pids of port-forwards that run, as the script has noted them."""
        pids = [int(file.read_text()) for file in self.clone.glob(".unmix/deploy/*/port-*.pid")]
        return [pid for pid in pids if is_alive(pid)]


def commands(printed: str) -> list[str]:
    """Return the commands that a dry run printed, as the stand-ins record them."""
    lines = [line for line in printed.splitlines() if not line.startswith("# ")]
    return [re.sub(r"^env \S+=\S+ ", "", line) for line in lines]


def index(ran: list[str], words: str) -> int:
    found = [number for number, line in enumerate(ran) if words in line]
    assert found, f"nothing ran with {words!r}: {ran}"
    return found[0]
