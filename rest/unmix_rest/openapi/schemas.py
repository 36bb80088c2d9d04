"""Schemas of what is answered, from the dataclasses that are answered with."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from unmix_rest.http.problems import STATUS, Problem

#: What workers of earlier versions did not write into files that are handed out as they are.
_NOT_IN_OLD_FILES: Final = {"Peaks": "beats"}

_PLACE: Final = "#/components/schemas/{model}"


class _AsWritten(GenerateJsonSchema):
    """How pydantic describes a dataclass, without the titles that only repeat the names of its fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schemas_of(kinds: Sequence[type]) -> dict[str, dict[str, Any]]:
    """Return the schema of each of these dataclasses, and of what they are made of, by its name."""
    adapters: list[tuple[type, JsonSchemaMode, TypeAdapter[Any]]] = [
        (kind, "serialization", TypeAdapter(kind)) for kind in dict.fromkeys((*kinds, Problem))
    ]
    _, found = TypeAdapter.json_schemas(adapters, ref_template=_PLACE, schema_generator=_AsWritten)
    schemas: dict[str, dict[str, Any]] = {name: _as_told(schema) for name, schema in found["$defs"].items()}
    for name, field in _NOT_IN_OLD_FILES.items():
        schemas[name]["required"].remove(field)
    schemas["Problem"]["properties"]["code"]["enum"] = sorted(STATUS)
    return schemas


def reference_to(kind: type) -> dict[str, str]:
    """Return what stands for the schema of a dataclass where it is used."""
    return {"$ref": _PLACE.format(model=kind.__name__)}


def _as_told(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of what is really told: all fields, whether they have a default or not, but `unknown`."""
    if "properties" not in schema:
        return dict(schema)
    properties = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema["properties"].items()
        if name != "unknown"
    }
    return {**schema, "properties": properties, "required": list(properties)}
