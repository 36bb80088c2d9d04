"""The quota of requests: each is counted before its route is asked, and each answer says how many are left.

It does so in the fields of draft-ietf-httpapi-ratelimit-headers. They tell of no other quota: a program that acts on
them would stop asking at all when it has as many jobs open as it may.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from flask import Flask, Response, request

from unmix.access.keys import Scope
from unmix.errors import QueueError
from unmix.queue.quotas import Bucket, Level
from unmix_rest.http.route import Route
from unmix_rest.quotas import REQUESTS, Quotas

#: Whoever has used up the quota may still ask why.
_NEVER_COUNTED: Final = "/apiv1/usage"
#: In the environment of a request: what is left of the quota.
_LEVEL: Final = "unmix.requests_level"


def register(app: Flask, quotas: Quotas, routes: Sequence[Route]) -> None:
    """Count requests if there is a quota of them; to be registered after what finds out who asks."""
    quota = quotas.all.get(REQUESTS)
    if not isinstance(quota, Bucket):
        return
    counted = {route.endpoint for route in routes if route.scope is not Scope.PUBLIC and route.rule != _NEVER_COUNTED}

    @app.before_request
    def count() -> None:
        if request.endpoint not in counted or request.method == "OPTIONS":
            return
        with suppress(QueueError):  # what can be answered without Redis still is
            level = quotas.ask(REQUESTS, amount=1)
            request.environ[_LEVEL] = level
            quotas.refuse_if_short(REQUESTS, level)

    @app.after_request
    def tell(response: Response) -> Response:
        level: Level | None = request.environ.get(_LEVEL)
        if level is not None:
            response.headers["RateLimit-Policy"] = f'"{REQUESTS}";q={quota.most:.0f};w={quota.window_seconds:.0f}'
            response.headers["RateLimit"] = f'"{REQUESTS}";{_left(quota, level)}'
        return response


def _left(quota: Bucket, level: Level) -> str:
    """Return how many requests are left, and in how many seconds all of them are again, or one if none is left."""
    left = max(0, math.floor(quota.most - level.used))
    seconds = level.full_seconds if left else level.full_seconds - quota.window_seconds * (1 - 1 / quota.most)
    return f"r={left};t={max(1, math.ceil(seconds))}"
