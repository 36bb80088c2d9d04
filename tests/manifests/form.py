"""Checks of the form: names, words, selectors, ports, quantities, images."""

import re
from collections.abc import Iterator

from manifests.workloads import Manifests, matches, title, twice, walk

#: Kinds that belong to no namespace.
CLUSTER_WIDE = {"Namespace"}

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_QUANTITY = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS = {"m": 1e-3, None: 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_IMAGE = re.compile(r"(?P<name>[a-z0-9][a-z0-9._/-]*)(:(?P<tag>[\w][\w.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?")

#: Words that the API server takes for a field, where the schema says no more than that it is a string.
_WORDS = {
    "accessModes": {"ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "fsGroupChangePolicy": {"OnRootMismatch", "Always"},
    "imagePullPolicy": {"IfNotPresent", "Always", "Never"},
    "podManagementPolicy": {"Parallel", "OrderedReady"},
    "operator": {"In", "NotIn", "Exists", "DoesNotExist", "Equal"},
    "policyTypes": {"Ingress", "Egress"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "unhealthyPodEvictionPolicy": {"AlwaysAllow", "IfHealthyBudget"},
    "whenUnsatisfiable": {"ScheduleAnyway", "DoNotSchedule"},
}
_TYPES = {
    "Service": {"ClusterIP", "LoadBalancer", "NodePort"},
    "seccompProfile": {"RuntimeDefault"},
    "strategy": {"RollingUpdate", "Recreate"},
    "updateStrategy": {"RollingUpdate", "OnDelete"},
}


def names_are_valid_and_unique(manifests: Manifests) -> Iterator[str]:
    keys = [
        (entry["kind"], entry["metadata"].get("namespace"), entry["metadata"]["name"]) for entry in manifests.objects
    ]
    for kind, namespace, name in twice(keys):
        yield f"{kind} {name} in {namespace} is there twice"
    for kind, namespace, name in keys:
        if not _NAME.fullmatch(name):
            yield f"{kind} {name!r} has no valid name"
        if kind not in CLUSTER_WIDE and not any(
            space["metadata"]["name"] == namespace for space in manifests.of_kind("Namespace")
        ):
            yield f"{kind} {name} is in the namespace {namespace}, which is not there"
    for entry in manifests.objects:
        for path, key, value in walk(entry):
            if key in ("labels", "matchLabels", "nodeSelector"):
                for label, text in value.items():
                    if not _LABEL.fullmatch(text) or not _LABEL.fullmatch(label.split("/")[-1]):
                        yield f"{title(entry)}: {path} has the invalid label {label}={text}"


def words_are_known(manifests: Manifests) -> Iterator[str]:
    for entry in manifests.objects:
        for path, key, value in walk(entry):
            if key in _WORDS:
                for word in value if isinstance(value, list) else [value]:
                    if word not in _WORDS[key]:
                        yield f"{title(entry)}: {path} cannot be {word!r}"
            known = _TYPES.get("Service" if path == ".spec" and entry["kind"] == "Service" else key)
            if known and isinstance(value, dict) and "type" in value and value["type"] not in known:
                yield f"{title(entry)}: {path}.type cannot be {value['type']!r}"
    for workload in manifests.workloads:
        policy = workload.pod.get("restartPolicy", "Always")
        if policy not in ({"OnFailure", "Never"} if workload.object["kind"] == "Job" else {"Always"}):
            yield f"{workload.name} cannot have the restart policy {policy!r}"


def selectors_select(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        selector = workload.object["spec"].get("selector")
        if selector and not matches(selector, workload.labels):
            yield f"{workload.name} does not select its own pods"
        for constraint in workload.pod.get("topologySpreadConstraints", []):
            if not matches(constraint["labelSelector"], workload.labels):
                yield f"{workload.name} spreads other pods than its own"
    for service in manifests.of_kind("Service"):
        if not manifests.behind(service):
            yield f"Service {service['metadata']['name']} has no pods behind it"
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for entry in manifests.of_kind(kind):
            if not any(
                workload.namespace == entry["metadata"]["namespace"] and matches(entry["spec"][field], workload.labels)
                for workload in manifests.workloads
            ):
                yield f"{kind} {entry['metadata']['name']} selects no pods"


def ports_exist(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for port in workload.ports:
            if not 1 <= port["containerPort"] <= 65535 or not _PORT_NAME.fullmatch(port["name"]):
                yield f"{workload.name} has the invalid port {port}"
        for complaint in twice([port["name"] for port in workload.ports]):
            yield f"{workload.name} names two ports {complaint}"
        for complaint in twice([port["containerPort"] for port in workload.ports]):
            yield f"{workload.name} has the port {complaint} twice"
        for container in workload.containers:
            own = {*(port["name"] for port in container.get("ports", []))}
            for name in ("startupProbe", "readinessProbe", "livenessProbe"):
                probe = container.get(name, {})
                for action in ("httpGet", "tcpSocket"):
                    port = probe.get(action, {}).get("port")
                    if action in probe and port not in own:
                        yield f"{workload.name}: its {name} asks the port {port}, which it does not name"
    for service in manifests.of_kind("Service"):
        name = f"Service {service['metadata']['name']}"
        for workload in manifests.behind(service):
            for port in service["spec"]["ports"]:
                if workload.port_number(port.get("targetPort", port["port"])) is None:
                    yield f"{name} leads to the port {port.get('targetPort')}, which {workload.name} does not have"
        for complaint in twice([port["port"] for port in service["spec"]["ports"]]):
            yield f"{name} has the port {complaint} twice"


def resources_are_bounded(manifests: Manifests) -> Iterator[str]:
    for entry in manifests.objects:
        for path, key, value in walk(entry):
            if key in ("requests", "limits", "sizeLimit"):
                for text in value.values() if isinstance(value, dict) else [value]:
                    if quantity(text) is None:
                        yield f"{title(entry)}: {path} is no quantity: {text!r}"
    for workload in manifests.workloads:
        for container in workload.containers:
            resources = container.get("resources", {})
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            for name in ("cpu", "memory"):
                if name not in requests or name not in limits:
                    yield f"{workload.name} has no request and limit of {name}"
            for name in requests.keys() & limits.keys():
                least, most = quantity(requests[name]), quantity(limits[name])
                if least is not None and most is not None and least > most:
                    yield f"{workload.name} requests more {name} than its limit"
            if "memory" in limits and (quantity(limits["memory"]) or 2**30) < 2**24:
                yield f"{workload.name} has a limit of memory in which nothing starts: {limits['memory']}"


def images_are_pinned(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for name in twice([container["name"] for container in workload.containers]):
            yield f"{workload.name} has two containers {name}"
        for container in workload.containers:
            host, _, rest = container["image"].partition("/")
            # The port of a registry is no tag.
            image = _IMAGE.fullmatch(rest if ":" in host and rest else container["image"])
            if image is None:
                yield f"{workload.name} has an image without a valid name: {container['image']}"
            elif not image["digest"] and image["tag"] in (None, "latest"):
                yield f"{workload.name} does not pin its image {container['image']}"


def quantity(text: str | int) -> float | None:
    """Return a quantity as a number, or None if it is none."""
    found = _QUANTITY.fullmatch(str(text))
    return float(found["number"]) * _UNITS[found["unit"]] if found else None
