"""The objects of the Prometheus Operator, as far as ours go: what may stand in them, and whether they find anything.

Its CRDs come as a program's manifests only, so this is the part of them that we use, written down by hand.
"""

from collections.abc import Iterator
from typing import Any

from manifests.rendering import Object
from manifests.workloads import Manifests, matches

_TEXT: Object = {"type": "string", "minLength": 1}
_TEXTS: Object = {"type": "object", "additionalProperties": _TEXT}
_DURATION: Object = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"}


def _object(required: str, **properties: Object) -> Object:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(item: Object) -> Object:
    return {"type": "array", "items": item, "minItems": 1}


_SPECS: dict[str, Object] = {
    "PodMonitor": _object(
        "selector podMetricsEndpoints",
        selector=_object(
            "",
            matchLabels=_TEXTS,
            matchExpressions=_list(_object("key operator", key=_TEXT, operator=_TEXT, values=_list(_TEXT))),
        ),
        podMetricsEndpoints=_list(_object("port", port=_TEXT, path=_TEXT, interval=_DURATION, scrapeTimeout=_DURATION)),
    ),
    "PrometheusRule": _object(
        "groups",
        groups=_list(
            _object(
                "name rules",
                name=_TEXT,
                interval=_DURATION,
                rules=_list(
                    _object(
                        "alert expr labels annotations",
                        alert=_TEXT,
                        expr=_TEXT,
                        labels=_TEXTS,
                        annotations=_TEXTS,
                        **{"for": _DURATION},
                    )
                ),
            )
        ),
    ),
}
KINDS = tuple(_SPECS)


def schema(kind: str) -> Object:
    """Return the JSON schema of a kind."""
    metadata: Object = {"type": "object", "required": ["name", "namespace"]}
    version: Object = {"const": "monitoring.coreos.com/v1"}
    return _object(
        "apiVersion kind metadata spec", apiVersion=version, kind={"const": kind}, metadata=metadata, spec=_SPECS[kind]
    )


def monitors_find_pods(manifests: Manifests) -> Iterator[str]:
    for monitor in manifests.of_kind("PodMonitor"):
        name, spec = f"PodMonitor {monitor['metadata']['name']}", monitor["spec"]
        found = [
            workload
            for workload in manifests.workloads
            if workload.namespace == monitor["metadata"]["namespace"] and matches(spec["selector"], workload.labels)
        ]
        if not found:
            yield f"{name} selects no pods"
        for workload in found:
            for endpoint in spec["podMetricsEndpoints"]:
                if workload.port_number(endpoint["port"]) is None:
                    yield f"{name} asks the port {endpoint['port']}, which {workload.name} does not have"


def rules_of(manifests: Manifests) -> list[dict[str, Any]]:
    """Return all alerts."""
    return [
        rule
        for entry in manifests.of_kind("PrometheusRule")
        for group in entry["spec"]["groups"]
        for rule in group["rules"]
    ]
