"""A view of rendered manifests as checks want it: the pods that will run, and everything by name."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manifests.rendering import Object

#: What `redis-passwords` and the like are to hold, as k8s/README.md tells those who make them.
_SECRET_ROW = re.compile(r"^\| `(?P<namespace>[a-z-]+)` \| `(?P<name>[a-z-]+)` \| (?P<keys>`.*?`) \|", re.MULTILINE)


def documented_secrets(page: str) -> dict[tuple[str, str], set[str]]:
    """Return the keys of each Secret, by namespace and name, of the table in k8s/README.md."""
    return {
        (row["namespace"], row["name"]): set(re.findall("`([^`]+)`", row["keys"])) for row in _SECRET_ROW.finditer(page)
    }


@dataclass(frozen=True)
class Workload:
    """Something that starts pods."""

    object: Object

    @property
    def name(self) -> str:
        return title(self.object)

    @property
    def namespace(self) -> str:
        return str(self.object["metadata"]["namespace"])

    @property
    def template(self) -> Object:
        template: Object = self.object["spec"]["template"]
        return template

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.template["metadata"].get("labels", {}))

    @property
    def pod(self) -> Object:
        pod: Object = self.template["spec"]
        return pod

    @property
    def containers(self) -> list[Object]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def ports(self) -> list[Object]:
        return [port for container in self.containers for port in container.get("ports", [])]

    def port_number(self, port: str | int) -> int | None:
        """Return the number of a port that the pods have, by its name or number."""
        numbers = [
            entry["containerPort"] for entry in self.ports if port in (entry.get("name"), entry["containerPort"])
        ]
        return numbers[0] if numbers else None


class Manifests:
    """The objects of one rendering."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def of_kind(self, *kinds: str) -> list[Object]:
        return [entry for entry in self.objects if entry["kind"] in kinds]

    @property
    def workloads(self) -> list[Workload]:
        return [Workload(entry) for entry in self.of_kind("Deployment", "StatefulSet", "Job")]

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        for entry in self.of_kind(kind):
            if (entry["metadata"].get("namespace"), entry["metadata"]["name"]) == (namespace, name):
                return entry
        return None

    def behind(self, service: Object) -> list[Workload]:
        """Return the workloads whose pods a Service selects."""
        selector = service["spec"].get("selector")
        namespace = service["metadata"]["namespace"]
        return [
            workload
            for workload in self.workloads
            if selector and workload.namespace == namespace and selector.items() <= workload.labels.items()
        ]

    def environment(self, workload: Workload, container: Object) -> dict[str, str | None]:
        """Return a container's variables; None stands for what comes from a Secret."""
        variables: dict[str, str | None] = {}
        for source in container.get("envFrom", []):
            settings = self.find("ConfigMap", workload.namespace, source.get("configMapRef", {}).get("name", ""))
            variables.update((settings or {}).get("data", {}))
        variables.update((entry["name"], entry.get("value")) for entry in container.get("env", []))
        return variables


def title(entry: Object) -> str:
    """Return how messages call an object."""
    return f"{entry['kind']} {entry['metadata']['name']}"


def walk(node: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield each key in a tree of maps and lists, with its path and value."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{path}.{key}", key, value
            yield from walk(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk(value, f"{path}[{index}]")


def twice(items: list[Any]) -> list[Any]:
    """Return what stands there more than once."""
    return [item for item, count in Counter(items).items() if count > 1]


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Tell whether a label selector selects these labels; an empty one selects all."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", "no other operator is in use"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
