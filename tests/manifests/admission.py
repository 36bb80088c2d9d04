"""Checks of what the API server refuses beyond its schemas: of some fields one excludes another, or asks for it."""

from collections.abc import Iterator

from manifests.rendering import Object
from manifests.workloads import Manifests, matches, title, twice, walk

#: What a probe, or a step of a container's life, can do; it does one of these.
HANDLERS = {"exec", "grpc", "httpGet", "sleep", "tcpSocket"}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
#: The kinds of volumes that the standard `restricted` lets in.
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}


def one_way_is_chosen(manifests: Manifests) -> Iterator[str]:
    """Where a field can be given in several ways, one is."""
    for workload in manifests.workloads:
        for container in workload.containers:
            life = container.get("lifecycle", {})
            steps = {name: each[name] for each in (container, life) for name in (*PROBES, "preStop") if name in each}
            for name, step in steps.items():
                if len(step.keys() & HANDLERS) != 1:
                    yield f"{workload.name}: its {name} does not do one thing, but {sorted(step.keys() & HANDLERS)}"
            for variable in container.get("env", []):
                if variable.get("value") and "valueFrom" in variable:
                    yield f"{workload.name} has the variable {variable['name']} in two ways"
        for volume in workload.pod.get("volumes", []):
            sources = volume.keys() - {"name"}
            if len(sources) != 1:
                yield f"{workload.name}: the volume {volume['name']} is not of one kind, but of {sorted(sources)}"
            if not sources <= VOLUMES:
                yield f"{workload.name}: the volume {volume['name']} is of a kind that the standard forbids"
    for budget in manifests.of_kind("PodDisruptionBudget"):
        if {"minAvailable", "maxUnavailable"} <= budget["spec"].keys():
            yield f"{title(budget)} says both how many may be away and how many have to be there"
    for policy in manifests.of_kind("NetworkPolicy"):
        for path, key, value in walk(policy["spec"]):
            for peer in value if key in ("to", "from") else []:
                if "ipBlock" in peer and len(peer) > 1:
                    yield f"{title(policy)}: {path} has addresses and pods in one peer"


def rules_are_of_a_direction_that_counts(manifests: Manifests) -> Iterator[str]:
    for policy in manifests.of_kind("NetworkPolicy"):
        for direction in ("ingress", "egress"):
            if policy["spec"].get(direction) and direction.capitalize() not in policy["spec"].get("policyTypes", []):
                yield f"{title(policy)} has rules of {direction}, which is not among its policyTypes"


def rollouts_can_go_on(manifests: Manifests) -> Iterator[str]:
    for deployment in manifests.of_kind("Deployment"):
        strategy = deployment["spec"].get("strategy", {})
        rolling = {"maxSurge": 1, "maxUnavailable": 1} | strategy.get("rollingUpdate", {})
        if strategy.get("type") == "Recreate" and "rollingUpdate" in strategy:
            yield f"{title(deployment)} is made anew, and says how it is rolled out"
        if {str(value) for value in rolling.values()} <= {"0", "0%"}:
            yield f"{title(deployment)} can never be rolled out: no pod more and none less"


def probes_fail_and_pass_as_they_may(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for container in workload.containers:
            for name in PROBES:
                if name != "readinessProbe" and container.get(name, {}).get("successThreshold", 1) != 1:
                    yield f"{workload.name}: its {name} has to pass once"
        for port in workload.ports:
            if "hostPort" in port:
                yield f"{workload.name} takes the port {port['hostPort']} of its node, which the standard forbids"


def claims_have_a_size(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for claim in workload.object["spec"].get("volumeClaimTemplates", []):
            if "storage" not in claim["spec"].get("resources", {}).get("requests", {}):
                yield f"{workload.name}: its claim {claim['metadata']['name']} does not say how large it is"


def every_pod_has_one_owner(manifests: Manifests) -> Iterator[str]:
    """Pods that two things take for theirs: each controller removes those of the other, and no budget counts."""
    for workload in manifests.workloads:
        mine = selected(manifests, workload.namespace, workload.object["spec"].get("selector"))
        if len(mine) > 1:
            yield f"{workload.name} takes pods of others for its own: {mine}"
    for service in manifests.of_kind("Service"):
        names = [workload.name for workload in manifests.behind(service)]
        if len(names) > 1:
            yield f"{title(service)} leads to pods of different kinds: {names}"
    budgeted = [
        name
        for budget in manifests.of_kind("PodDisruptionBudget")
        for name in selected(manifests, budget["metadata"]["namespace"], budget["spec"].get("selector"))
    ]
    for name in twice(budgeted):
        yield f"{name} has two budgets: nothing can be drained"


def selected(manifests: Manifests, namespace: str, selector: Object | None) -> list[str]:
    """Return the names of the workloads whose pods a label selector selects; none if there is no selector."""
    return [
        workload.name
        for workload in manifests.workloads
        if selector and workload.namespace == namespace and matches(selector, workload.labels)
    ]
