"""Holds answers against what the API says of itself: `Rest` of `rest_support.py` does so with each that a test gets."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from flask import Flask
from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from unmix_rest.openapi import Description
from unmix_rest.routes.table import ROUTES

#: Methods of which nothing is said: Flask answers them itself.
_UNSAID = ("OPTIONS",)


class Undescribed(AssertionError):
    """An answer that the description does not have."""


def check(app: Flask, answer: TestResponse) -> tuple[str, int] | None:
    """Return the operation that was asked and the status, None if there is none; no field may be left unsaid.

    Raises:
        Undescribed: the description has another answer, or none.
    """
    request = answer.request
    if request.method in _UNSAID or answer.status_code == 308:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    try:
        endpoint, _ = app.url_map.bind("rest").match(request.path, method)
    except HTTPException:
        _fits(answer, {"$ref": "#/components/schemas/Problem"})
        return None
    operation = _operations()[endpoint, method]
    status = str(answer.status_code)
    said = operation["responses"].get(status)
    if said is None:
        raise Undescribed(f"{method} {request.path} is answered with {status}: {answer.text[:300]}")
    if missing := said.get("headers", {}).keys() - set(answer.headers.keys()):
        raise Undescribed(f"{method} {request.path}, {status}: headers {missing} are missing")
    kinds, kind = said.get("content", {}), answer.mimetype or ""
    if kind not in kinds and (kinds or kind.endswith("json")):
        raise Undescribed(f"{method} {request.path}, {status}: {kind}, not {list(kinds)}")
    schema = kinds.get(kind, {}).get("schema")
    if schema and request.method != "HEAD" and kind.endswith("json"):
        _fits(answer, schema)
    return operation["operationId"], answer.status_code


def document() -> Mapping[str, Any]:
    """Return the document of the API as it is."""
    return _description().document


@cache
def _description() -> Description:
    return Description(ROUTES, "0", needs_key=False)


@cache
def _operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return what is said of each endpoint and method."""
    said = {
        operation["operationId"]: operation
        for operations in document()["paths"].values()
        for operation in operations.values()
    }
    return {
        (route.endpoint, method): said.get(name := route.endpoint.replace(".", "_")) or said[f"{name}_{method.lower()}"]
        for route in ROUTES
        for method in route.methods
    }


def _fits(answer: TestResponse, schema: Mapping[str, Any]) -> None:
    errors = list(Draft202012Validator({**_closed(), **schema}).iter_errors(answer.get_json()))
    if errors:
        raise Undescribed(f"{answer.request.path}: {errors[0].message} at {list(errors[0].path)}: {answer.text[:300]}")


@cache
def _closed() -> dict[str, Any]:
    """Return the schemas with no room for more fields; only errors may say more."""
    schemas = {
        name: {**schema, "additionalProperties": False} if "properties" in schema and name != "Problem" else schema
        for name, schema in document()["components"]["schemas"].items()
    }
    return {"components": {"schemas": schemas}}
