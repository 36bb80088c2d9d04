"""What is known of one route, beside what it answers: `unmix_rest.routes.table` has all of them.

Half of it is for the application (lanes, how errors are told), half is what `unmix_rest.openapi` tells clients.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from flask import Response, request

from unmix.access.keys import Scope
from unmix_rest.http.lanes import Lane

#: A JSON Schema, or a dataclass that stands for one.
Shape = Mapping[str, Any] | type

JSON: Final = "application/json"


class Audience(StrEnum):
    """Who asks for a route, where those who run the service have a port of their own."""

    CLIENTS = "clients"
    OPERATORS = "operators"
    EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something that a request may say beside its body."""

    name: str
    shape: Mapping[str, Any]
    text: str
    is_required: bool = False
    is_header: bool = False  # or else it stands in the query


@dataclass(frozen=True, slots=True)
class Body:
    """One form that a request's body may have; no shape: its bytes are what they are."""

    media_type: str
    shape: Shape | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer that is no error."""

    text: str
    shape: Shape | None = None
    media_types: tuple[str, ...] = (JSON,)  # none: it has no body
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)  # and what each says
    #: What it names of other routes: a variable of their rules, and where it stands in the answer, as a JSON pointer.
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """One rule, and the function that answers it: it is handed the services and the variables of the rule."""

    rule: str
    methods: tuple[str, ...]  # HEAD goes with GET
    view: Callable[..., Response]
    lane: Lane = Lane.QUICK
    is_new: bool = False  # a wrong field is answered with 422, not with 400 as older clients expect
    may_wait: bool = False  # for the end of its job, if the client would
    takes_songs: bool = False  # what is refused here counts as a song that was turned away
    audience: Audience = Audience.CLIENTS
    scope: Scope = field(kw_only=True)
    answers: tuple[Answer, ...] = field(kw_only=True)
    parameters: tuple[Parameter, ...] = ()
    bodies: tuple[Body, ...] = ()
    needs_body: bool = True  # where it has one
    errors: tuple[str, ...] = ()  # codes, without those that every route has

    @property
    def endpoint(self) -> str:
        """What Flask calls the route, such as `separate.submit`."""
        return f"{self.view.__module__.rpartition('.')[2]}.{self.view.__name__}"

    @property
    def takes_links(self) -> bool:
        """Whether a link to a job opens it: it reads that one job."""
        return self.scope is Scope.READ and "<job_id>" in self.rule and self.methods == ("GET",)

    @property
    def summary(self) -> str:
        """What happens, in a sentence: how the docstring of the view begins."""
        return (self.view.__doc__ or "").strip().partition("\n")[0]


def asked_route() -> str:
    """Return the template of the route that is being answered, `none` for a path that there is not."""
    return request.url_rule.rule if request.url_rule else "none"
