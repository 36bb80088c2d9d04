"""The guide to Google Kubernetes Engine: the overlay in it renders, and fits the nodes that it has people make."""

import os
import re
import textwrap
from pathlib import Path

from manifests.checks import problems
from manifests.rendering import K8S, ROOT, Object, render
from manifests.workloads import Manifests

GUIDE = (ROOT / "docs" / "gke.md").read_text()


def overlay_of_the_guide(folder: Path) -> list[Object]:
    found = re.search(r"^    apiVersion: kustomize.*?(?=^\S)", GUIDE, re.MULTILINE | re.DOTALL)
    assert found
    text = textwrap.dedent(found[0])
    assert "../gke-spot" in text
    text = text.replace("../gke-spot", os.path.relpath(K8S / "overlays" / "gke-spot", folder))
    (folder / "kustomization.yaml").write_text(text)
    return render(folder)


def test_the_overlay_of_the_guide_is_without_a_known_mistake(tmp_path: Path) -> None:
    assert problems(overlay_of_the_guide(tmp_path.resolve())) == []


def test_workers_go_to_the_spot_nodes_of_the_guide_and_all_images_to_its_registry(tmp_path: Path) -> None:
    manifests = Manifests(overlay_of_the_guide(tmp_path.resolve()))
    tainted = re.search(r"--node-taints (\S+)=true:NoSchedule", GUIDE)
    assert tainted
    for workload in manifests.workloads:
        tolerated = {entry["key"] for entry in workload.pod.get("tolerations", [])}
        assert (tainted[1] in tolerated) == (workload.name == "Deployment worker")
        for container in workload.containers:
            if "track-unmix" in container["image"]:
                assert container["image"].startswith("europe-west4-docker.pkg.dev/my-project/track-unmix/")
