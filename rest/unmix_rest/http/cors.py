"""CORS: which pages of other origins may use the service from a browser, and what they may send and see.

Nobody is known by a cookie here, so that credentials are never allowed. Without any origin nothing is said at all.
"""

from dataclasses import dataclass
from typing import Final

from flask import Flask, Response, request

#: In the place of origins: all of them.
ANY: Final = "*"

_ALLOWED_HEADERS: Final = (
    "Content-Type, Content-Range, Content-Disposition, Prefer, Last-Event-ID, Authorization"  # beside the harmless ones
)
EXPOSED_HEADERS: Final = "Location, Content-Disposition, Upload-Offset, ETag, Retry-After, RateLimit, RateLimit-Policy"
#: How long a browser need not ask again what it may do; none believes it for longer than this, or for a day.
_MAX_AGE_SECONDS: Final = 7200


@dataclass(frozen=True, slots=True)
class Cors:
    """The origins whose pages may use the service."""

    origins: frozenset[str]

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return what any answer, of errors too, has to say to a page of `origin`."""
        if ANY in self.origins:
            return {"Access-Control-Allow-Origin": ANY, "Access-Control-Expose-Headers": EXPOSED_HEADERS}
        headers = {"Vary": "Origin"} if self.origins else {}  # for caches: another origin gets another answer
        if origin is not None and origin in self.origins:
            headers |= {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED_HEADERS}
        return headers


def register(app: Flask, cors: Cors) -> None:
    """Make `app` tell browsers what pages of other origins may do: of each URL, what its routes can."""

    @app.after_request
    def allow(response: Response) -> Response:
        for name, value in cors.headers(request.headers.get("Origin")).items():
            response.headers.add(name, value)
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if is_preflight and response.allow and "Access-Control-Allow-Origin" in response.headers:
            response.headers["Access-Control-Allow-Methods"] = ", ".join(sorted(response.allow))
            response.headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
            response.headers["Access-Control-Max-Age"] = str(_MAX_AGE_SECONDS)
        return response
