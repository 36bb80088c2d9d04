"""The schemas of KEDA's objects: its own types, in which no unknown field is allowed."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from manifests.rendering import Object

KINDS = ("ScaledObject", "TriggerAuthentication")

_WORDS = {"address", "username", "databaseIndex", "listName", "listLength"}


@cache
def schema(kind: str) -> Object:
    """Return the JSON schema of a kind."""
    from cloudcoil.models.keda import v1alpha1  # slow, so only for those who need it

    found: Object = getattr(v1alpha1, kind).model_json_schema(by_alias=True)
    _forbid_more(found)
    return found


def trigger_problems(trigger: Object) -> Iterator[str]:
    """Yield what is wrong with a trigger on a Redis list: to the schema its metadata are any words with any text."""
    metadata = trigger["metadata"]
    if trigger["type"] != "redis":
        yield f"no trigger of ours is of the type {trigger['type']!r}"
    for word in sorted(metadata.keys() - _WORDS):
        yield f"its trigger has the unknown word {word!r}"
    for word in ("address", "listName"):
        if not metadata.get(word):
            yield f"its trigger has no {word}"
    for word in ("databaseIndex", "listLength"):
        if not metadata.get(word, "").isdecimal():
            yield f"its trigger's {word} is no number"


def _forbid_more(node: Any) -> None:
    if isinstance(node, dict):
        if "properties" in node:
            node.setdefault("additionalProperties", False)
        for value in node.values():
            _forbid_more(value)
    elif isinstance(node, list):
        for value in node:
            _forbid_more(value)
