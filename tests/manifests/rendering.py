"""Renders the manifests as `kubectl apply -k` would, without a cluster."""

import os
import shutil
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
#: Folders that hold manifests, those of the workflows and of one machine.
SOURCES = (K8S, ROOT / "redis", ROOT / "minio", ROOT / ".github", ROOT / "docs" / "single-machine")

Object = dict[str, Any]


def kubectl_path() -> str:
    """Return where kubectl is: beside the interpreter, where setup installs it, or else on the PATH."""
    kubectl = shutil.which("kubectl", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    assert kubectl is not None, "kubectl is missing: `make setup` installs it"
    return kubectl


def render(folder: Path) -> list[Object]:
    """Return the objects that kustomize makes of a folder."""
    done = subprocess.run([kubectl_path(), "kustomize", str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"{folder} does not render: {done.stderr}"
    return list(yaml.safe_load_all(done.stdout))


@cache
def combination(overlay: str, *components: str) -> list[Object]:
    """Return an overlay with components, named by a folder of the operator's own. Do not change what it returns."""
    if not components:
        return render(K8S / "overlays" / overlay)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder).resolve()
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [os.path.relpath(K8S / "overlays" / overlay, here)],
            "components": [os.path.relpath(K8S / "components" / name, here) for name in components],
        }
        (here / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return render(here)
