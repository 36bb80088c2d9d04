"""Checks of what processes need to work: folders that they may write to, time to start, a way to those they ask."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from manifests.admission import PROBES
from manifests.arrows import arrows
from manifests.form import quantity
from manifests.rendering import Object
from manifests.workloads import Manifests, Workload, title

#: Settings that name a place to write to. The root of a container is read-only.
WRITTEN = ("HOME", "UNMIX_SCRATCH_DIR", "UNMIX_WORKER_HEARTBEAT", "UNMIX_JANITOR_HEARTBEAT")
#: How long our processes wait for Redis and the store before they end with a word about them.
PATIENCE_SECONDS = 120
#: Whom a process asks that is told the secret for it.
LOGINS = {"UNMIX_REDIS_URL": "UNMIX_REDIS_PASSWORD", "UNMIX_STORE_URL": "UNMIX_STORE_SECRET_KEY"}
_VARIABLE = re.compile(r"\$\{?([A-Z][A-Z_]+)")


def what_is_written_to_can_be_written(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for container in workload.containers:
            mounts = [mount["mountPath"] for mount in container.get("volumeMounts", []) if not mount.get("readOnly")]
            told = manifests.environment(workload, container)
            for name in WRITTEN:
                path = told.get(name)
                if path and not any(f"{path}/".startswith(f"{mount.rstrip('/')}/") for mount in mounts):
                    yield f"{workload.name} cannot write to {path} ({name}): nothing is mounted there"
        if workload.object["spec"].get("volumeClaimTemplates") and "fsGroup" not in _security(workload):
            yield f"{workload.name} cannot write to its claims: it has no fsGroup"


def folders_are_bounded(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        folders = {
            volume["name"]: volume["emptyDir"] for volume in workload.pod.get("volumes", []) if "emptyDir" in volume
        }
        for name, folder in folders.items():
            if "sizeLimit" not in folder:
                yield f"{workload.name}: its folder {name} may fill the node: it has no sizeLimit"
        limits = [
            container.get("resources", {}).get("limits", {}).get("ephemeral-storage")
            for container in workload.pod["containers"]
        ]
        room = sum(quantity(limit) or 0 for limit in limits if limit)
        if all(limits) and sum(quantity(folder.get("sizeLimit", 0)) or 0 for folder in folders.values()) > room:
            yield f"{workload.name} is evicted before its folders are full: its limit of ephemeral-storage is smaller"


def probes_ask_what_is_there(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for container in workload.containers:
            told = manifests.environment(workload, container)
            for name in PROBES:
                probe = container.get(name, {})
                for variable in _VARIABLE.findall(" ".join(probe.get("exec", {}).get("command", []))):
                    if variable not in told:
                        yield f"{workload.name}: its {name} reads {variable}, which it is not told"
            start = container.get("startupProbe")
            if start and "track-unmix-" in container["image"] and _patience_seconds(start) < PATIENCE_SECONDS:
                yield f"{workload.name} is killed while it waits for others: its startupProbe gives up too soon"


def _patience_seconds(probe: Object) -> int:
    return int(probe.get("periodSeconds", 10)) * int(probe.get("failureThreshold", 3))


def whom_they_ask_they_reach(manifests: Manifests) -> Iterator[str]:
    """Under the network policies: what a process is told to ask, it is let through to."""
    if not manifests.of_kind("NetworkPolicy"):
        return
    open_ways = arrows(manifests)
    for workload in manifests.workloads:
        for container in workload.containers:
            told = manifests.environment(workload, container)
            for name, secret in LOGINS.items():
                address = urlsplit(told.get(name) or "")
                target = _behind(manifests, workload.namespace, address.hostname or "")
                way = (workload.object["metadata"]["name"], target, address.port)
                if secret in told and target and way not in open_ways:
                    yield f"{workload.name} is told to ask {target} at {address.port}, and no policy lets it through"


def _behind(manifests: Manifests, namespace: str, host: str) -> str | None:
    """Return the name of what is behind a Service of the cluster; None for any other host."""
    name, _, space = host.removesuffix(".svc").partition(".")
    service = manifests.find("Service", space or namespace, name)
    found = manifests.behind(service) if service else []
    return str(found[0].object["metadata"]["name"]) if found else None


def one_hand_scales(manifests: Manifests) -> Iterator[str]:
    """Workers by KEDA or by hand. By their CPU a HorizontalPodAutoscaler would remove busy ones."""
    scaled = [entry["spec"]["scaleTargetRef"]["name"] for entry in manifests.of_kind("ScaledObject")]
    for scaler in manifests.of_kind("HorizontalPodAutoscaler"):
        target, namespace = scaler["spec"]["scaleTargetRef"], scaler["metadata"]["namespace"]
        workload = manifests.find(target["kind"], namespace, target["name"])
        if workload is None:
            yield f"{title(scaler)} scales {target['name']}, which is not there"
        elif "replicas" in workload["spec"]:
            yield f"{title(scaler)} scales {target['name']}, whose manifest fixes the replicas"
        if target["name"] in ("worker", *scaled):
            yield f"{title(scaler)} scales {target['name']}, which is KEDA's or yours to scale"
    for entry in manifests.of_kind("ScaledObject"):
        if entry["spec"].get("minReplicaCount", 0) > entry["spec"].get("maxReplicaCount", 100):
            yield f"{title(entry)} has more replicas at least than at most"


def _security(workload: Workload) -> Object:
    context: Object = workload.pod.get("securityContext", {})
    return context
