"""The OpenAPI document of some routes. The classes of `openapi_pydantic` check each piece of it."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from openapi_pydantic import (
    Components,
    Header,
    Info,
    Link,
    MediaType,
    OpenAPI,
    Operation,
    Parameter,
    PathItem,
    RequestBody,
    Response,
    Schema,
    SecurityScheme,
    Tag,
)

from unmix.access.keys import Scope
from unmix_rest.http.credentials import COOKIE
from unmix_rest.http.problems import Problem, statuses
from unmix_rest.http.route import Answer, Route, Shape
from unmix_rest.openapi.schemas import reference_to, schemas_of
from unmix_rest.routes import errors, parameters

_ABOUT: Final = """Music separation as a service: send a song, get its stems back.

`POST /apiv1/jobs` takes a song in and answers with its job; `GET /apiv1/jobs/{job_id}` tells how it goes, and where its
stems are. Every error is `application/problem+json` with a stable `code`. HEAD works wherever GET does, and a slash at
the end of a path changes nothing. Answers grow: ignore fields that you do not know.

Where the operator wants keys, an operation needs one of its `x-scope`, said in any of the ways that its `security`
names; where an empty way is among them, nobody is asked for a key here. Where there are quotas, `GET /apiv1/usage`
tells of them; where requests are counted, answers have the fields `RateLimit-Policy` and `RateLimit`."""

#: How a key can be said.
_SECURITY: Final[Mapping[str, Mapping[str, str]]] = {
    "key": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer` and the key"},
    "key_in_url": {
        "type": "http",
        "scheme": "basic",
        "description": "the key as user or as password, as clients make it of `https://key@host` or `https://key:@host`",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "what a browser gets for a key at `POST /apiv1/session`",
    },
}
#: How somebody says that he was let in by the owner of a key.
_LINK: Final = {
    "type": "apiKey",
    "in": "query",
    "name": "link",
    "description": "what `POST /apiv1/jobs/{job_id}/links` has made for this job",
}

_VARIABLE: Final = re.compile(r"<(?:int:|path:)?(\w+)>")


def document_of(routes: Sequence[Route], version: str, *, needs_key: bool) -> dict[str, Any]:
    """Return the document of these routes as plain JSON values; `needs_key` says whether there are keys here."""
    paths: defaultdict[str, dict[str, Operation]] = defaultdict(dict)
    for route in routes:
        for method in route.methods:
            paths[_VARIABLE.sub(r"{\1}", route.rule)][method.lower()] = _operation(
                route, method, routes, needs_key=needs_key
            )
    kinds = [answer.shape for route in routes for answer in route.answers if isinstance(answer.shape, type)]
    document = OpenAPI(
        info=Info(title="Track-Unmix", version=version, description=_ABOUT),
        paths={path: PathItem.model_validate(operations) for path, operations in paths.items()},
        components=Components(
            schemas={name: Schema.model_validate(schema) for name, schema in schemas_of(kinds).items()},
            securitySchemes={
                name: SecurityScheme.model_validate(scheme) for name, scheme in {**_SECURITY, "link": _LINK}.items()
            },
        ),
        tags=[Tag(name=name) for name in dict.fromkeys(map(_tag, routes))],
    )
    plain: dict[str, Any] = document.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"openapi": document.openapi, **plain}


def _operation(route: Route, method: str, routes: Sequence[Route], *, needs_key: bool) -> Operation:
    responses = {str(answer.status): _response(answer, routes) for answer in route.answers}
    fields: dict[str, Any] = {
        "operationId": _operation_id(route, method),
        "summary": route.summary,
        "tags": [_tag(route)],
        "responses": responses | {str(status): answer for status, answer in _errors(route)},
        "security": _security(route, needs_key=needs_key),
        "x-scope": route.scope.value,
    }
    if parameters := [*_variables(route), *_parameters(route)]:
        fields["parameters"] = parameters
    if route.bodies:
        content = {body.media_type: _media(body.shape) for body in route.bodies}
        fields["requestBody"] = RequestBody(content=content, required=route.needs_body)
    return Operation.model_validate(fields)


def _security(route: Route, *, needs_key: bool) -> list[dict[str, list[str]]]:
    """Return the ways to say who may do this, one of which is enough."""
    if route.scope is Scope.PUBLIC:
        return []
    names = [*_SECURITY, "link"] if route.takes_links else [*_SECURITY]
    ways: list[dict[str, list[str]]] = [{name: [route.scope.value]} for name in names]
    return ways if needs_key else [{}, *ways]


def _operation_id(route: Route, method: str) -> str:
    name = route.endpoint.replace(".", "_")
    return name if len(route.methods) == 1 else f"{name}_{method.lower()}"


def _tag(route: Route) -> str:
    return route.endpoint.partition(".")[0]


def _variables(route: Route) -> Iterator[Parameter]:
    for name in _VARIABLE.findall(route.rule):
        schema, text = parameters.VARIABLES[name]
        yield _parameter(name, "path", schema, text, is_required=True)


def _parameters(route: Route) -> Iterator[Parameter]:
    for each in route.parameters:
        where = "header" if each.is_header else "query"
        yield _parameter(each.name, where, each.shape, each.text, is_required=each.is_required)


def _parameter(name: str, where: str, schema: Mapping[str, Any], text: str, *, is_required: bool) -> Parameter:
    fields = {"name": name, "in": where, "description": text, "required": is_required, "schema": schema}
    return Parameter.model_validate(fields)


def _media(shape: Shape | None) -> MediaType:
    if shape is None:
        return MediaType()
    schema = reference_to(shape) if isinstance(shape, type) else shape
    return MediaType.model_validate({"schema": schema})


def _response(answer: Answer, routes: Sequence[Route]) -> Response:
    fields: dict[str, Any] = {"description": answer.text}
    if answer.media_types:
        fields["content"] = {media_type: _media(answer.shape) for media_type in answer.media_types}
    if answer.headers:
        fields["headers"] = {name: _header(text) for name, text in answer.headers.items()}
    if answer.names:
        fields["links"] = dict(_links(answer.names, routes))
    return Response.model_validate(fields)


def _header(text: str) -> Header:
    return Header.model_validate({"description": text, "required": True, "schema": {"type": "string"}})


def _links(names: Mapping[str, str], routes: Sequence[Route]) -> Iterator[tuple[str, Link]]:
    """Yield every operation that can be asked next by what an answer names."""
    for route in routes:
        if set(_VARIABLE.findall(route.rule)) == names.keys():
            values = {name: f"$response.body#{place}" for name, place in names.items()}
            for method in route.methods:
                name = _operation_id(route, method)
                yield name, Link(operationId=name, parameters=values)


def _errors(route: Route) -> Iterator[tuple[int, Response]]:
    """Yield an answer for each status that errors of a route have; it names the codes that there are with it."""
    takes_forms = any(body.media_type == parameters.FORM for body in route.bodies)
    codes: defaultdict[int, list[str]] = defaultdict(list)
    of_key = () if route.scope is Scope.PUBLIC else (*errors.KEY, *errors.QUOTA)
    if route.takes_links:
        of_key = (*of_key, "bad_link")
    for code in dict.fromkeys((*route.errors, *of_key, *errors.ALWAYS)):
        for status in statuses(code, is_new=route.is_new or takes_forms, is_old=not route.is_new):
            codes[status].append(code)
    for status in sorted(codes):
        schema = {**reference_to(Problem), "properties": {"code": {"enum": codes[status]}}}
        fields: dict[str, Any] = {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes[status])}",
            "content": {"application/problem+json": {"schema": schema}},
        }
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            fields["headers"] = {"Retry-After": _header("try again after so many seconds")}
        if status == HTTPStatus.UNAUTHORIZED:
            fields["headers"] = {"WWW-Authenticate": _header("`Bearer`")}
        yield status, Response.model_validate(fields)
