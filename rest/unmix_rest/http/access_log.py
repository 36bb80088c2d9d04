"""One line in the log for each request: what was asked, the answer's status, and how long its making took.

It names the route and the job, never the path or the query: keys of older clients and the seals of links stand there.
Whatever else is logged while a request is answered has its job too.
"""

import time
from collections.abc import Sequence
from http import HTTPStatus

import structlog
from flask import Flask, Response, g, request
from structlog.contextvars import bind_contextvars, clear_contextvars

from unmix.names import is_job_id
from unmix.runtime.logs import REQUEST
from unmix_rest.http.route import Audience, Route, asked_route

log = structlog.get_logger()


def register(app: Flask, routes: Sequence[Route]) -> None:
    """Log each answer; to be registered before what refuses any. Probes are logged only if they fail.

    `g.began` has to have when the request began, in monotonic seconds.
    """
    asked_all_the_time = {route.endpoint for route in routes if route.audience is not Audience.CLIENTS}

    @app.before_request
    def begin() -> None:
        clear_contextvars()  # of the request before, whose answer this thread may have gone on to send
        job_id = (request.view_args or {}).get("job_id", "")
        if is_job_id(job_id):
            bind_contextvars(job_id=job_id)

    @app.after_request
    def tell(response: Response) -> Response:
        if request.endpoint in asked_all_the_time and response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        log.info(
            REQUEST,
            method=request.method,
            route=asked_route(),
            status=response.status_code,
            ms=round(1000 * (time.monotonic() - g.began), 1),
        )
        return response
