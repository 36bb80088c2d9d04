"""Checks of how pods run and end: restricted, watched, with time to finish."""

from collections.abc import Iterator

from manifests.rendering import Object
from manifests.workloads import Manifests

#: Workloads without probes: nobody waits for them, and they do nothing without a time-out.
WITHOUT_PROBES = {"Deployment logs", "Job buckets"}
#: The settings that say how long a process may take to end, and what has to be left of the pod's grace after that.
SHUTDOWN_SETTINGS = ("UNMIX_SHUTDOWN_SECONDS", "UNMIX_REST_SHUTDOWN_SECONDS")
GRACE_RESERVE_SECONDS = 10


def pods_are_restricted(manifests: Manifests) -> Iterator[str]:
    for space in manifests.of_kind("Namespace"):
        if space["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"Namespace {space['metadata']['name']} does not enforce the restricted standard"
    for account in manifests.of_kind("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {account['metadata']['name']} gives out its token"
    entitled = {
        (subject["namespace"], subject["name"])
        for binding in manifests.of_kind("RoleBinding")
        for subject in binding["subjects"]
    }
    for workload in manifests.workloads:
        pod, context = workload.pod, workload.pod.get("securityContext", {})
        needs_token = (workload.namespace, pod.get("serviceAccountName")) in entitled
        if pod.get("automountServiceAccountToken") is not needs_token:
            lacks = "no token, though it has rights" if needs_token else "a token of its ServiceAccount"
            yield f"{workload.name} mounts {lacks}"
        if pod.get("enableServiceLinks") is not False:
            yield f"{workload.name} gets variables of all Services, REDIS_PORT among them"
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{workload.name} may run as root: it needs runAsNonRoot and a numeric user"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{workload.name} has no seccomp profile"
        if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{workload.name} shares a namespace of its node"
        if any("hostPath" in volume for volume in pod.get("volumes", [])):
            yield f"{workload.name} mounts a folder of its node"
        for container in workload.containers:
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{workload.name} may gain privileges"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{workload.name} may write to its image"
            if own.get("capabilities", {}) != {"drop": ["ALL"]}:
                yield f"{workload.name} keeps capabilities"
            if own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False:
                yield f"{workload.name} runs a container as root"


def pods_are_watched_and_end_in_peace(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        ordered = workload.object["spec"].get("podManagementPolicy") != "Parallel"
        if workload.object["kind"] == "StatefulSet" and ordered:
            yield f"{workload.name} would keep a pod that never became ready, whatever is mended: it is not Parallel"
        for container in workload.containers:
            begins = container in workload.pod.get("initContainers", [])
            for name in ("startupProbe", "readinessProbe", "livenessProbe"):
                if name not in container and not begins and workload.name not in WITHOUT_PROBES:
                    yield f"{workload.name} has no {name}"
            environment = manifests.environment(workload, container)
            grace = workload.pod.get("terminationGracePeriodSeconds", 30)
            pause = max(map(_pause_seconds, workload.containers))  # they begin to end together
            given = (environment.get(name) or "" for name in SHUTDOWN_SETTINGS)
            for seconds in filter(str.isdecimal, given):
                if grace < pause + int(seconds) + GRACE_RESERVE_SECONDS:
                    yield f"{workload.name} is killed after {grace} s, but may take {pause + int(seconds)} s to end"
            is_reached = any(port["name"] == "http" for port in container.get("ports", []))
            if workload.name == "Deployment rest" and is_reached and not _pause_seconds(container):
                yield f"{workload.name} stops before every proxy knows: it needs a preStop pause"
            if (
                workload.name == "Deployment rest"
                and container["name"] == "rest"
                and "UNMIX_REST_SHUTDOWN_SECONDS" not in environment
            ):
                yield f"{workload.name} does not say how long transfers have to end, so that nobody compares it"
    for budget in manifests.of_kind("PodDisruptionBudget"):
        if budget["spec"].get("maxUnavailable") in (None, 0, "0%"):
            yield f"PodDisruptionBudget {budget['metadata']['name']} may keep a node from being drained"


def _pause_seconds(container: Object) -> int:
    """Return how long a container sleeps before it is asked to end."""
    pause: int = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    return pause


def strangers_are_let_in_on_purpose(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for container in workload.containers:
            told = manifests.environment(workload, container)
            is_meant = told.get("UNMIX_AUTH") == "keys" or told.get("UNMIX_OPEN") == "yes"
            if workload.name == "Deployment rest" and container["name"] != "gate" and not is_meant:
                yield f"{workload.name} asks nobody for a key, and nobody has written UNMIX_OPEN=yes"
