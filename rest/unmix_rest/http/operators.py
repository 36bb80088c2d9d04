"""A port of their own for those who run the service, where there is one: each port answers its own routes alone.

Which port a request came in at is known from its connection, never from what the request or a proxy says.
"""

from collections.abc import Iterable

from flask import Flask, request
from werkzeug.exceptions import NotFound

from unmix_rest.http.connection import FOR_OPERATORS
from unmix_rest.http.route import Audience, Route


def register(app: Flask, routes: Iterable[Route]) -> None:
    """Answer what is not for whoever may connect to a port as if it was not there."""
    audiences = {route.rule: route.audience for route in routes}

    @app.before_request
    def check_audience() -> None:
        # By the path, as there is no rule where the method is not one of the route's. None of these has variables.
        audience = audiences.get(request.path.rstrip("/") or "/", Audience.CLIENTS)
        is_operator = bool(request.environ.get(FOR_OPERATORS, False))
        if audience not in (Audience.EVERYBODY, Audience.OPERATORS if is_operator else Audience.CLIENTS):
            raise NotFound
