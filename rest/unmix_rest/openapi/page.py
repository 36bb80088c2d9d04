"""The document as a page for people: plain HTML without scripts, all of it from here."""

from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader

_TEMPLATES: Final = Environment(
    loader=PackageLoader("unmix_rest", "openapi"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def page_of(document: Mapping[str, Any]) -> str:
    """Return the page of a document."""
    return _TEMPLATES.get_template("docs.html").render(document=document, kind_of=kind_of, name_of=name_of)


def name_of(schema: Mapping[str, Any]) -> str:
    """Return which schema of the document another one refers to, empty if it does to none."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def kind_of(schema: Mapping[str, Any]) -> str:
    """Return in a few words what a schema allows, such as `list of text, or null`."""
    if "$ref" in schema:
        return name_of(schema)
    if "enum" in schema:
        return " | ".join("null" if value is None else str(value) or "nothing" for value in schema["enum"])
    if "anyOf" in schema:
        return ", or ".join(map(kind_of, schema["anyOf"]))
    kinds = schema.get("type", "any")
    return ", or ".join(_word(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _word(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    values = schema.get("additionalProperties")
    if kind == "object" and isinstance(values, Mapping):
        return f"object of {kind_of(values)}"
    return {"string": "text", "integer": "whole number"}.get(kind, kind)
