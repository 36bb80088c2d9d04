"""Times the requests that change something, as parts of the traces that their clients name by `traceparent`.

Jobs that come of a request are in its trace (`unmix.runtime.traces`).
"""

from contextlib import ExitStack
from typing import Final

from flask import Flask, Response, request

from unmix.runtime import traces

#: In the environment of a request: what ends its span.
_SPAN: Final = "unmix.span"
_CHANGING: Final = ("POST", "PUT", "DELETE")


def register(app: Flask) -> None:
    """Time requests, if traces are on; to be registered before what refuses any."""
    if not traces.are_on():
        return

    @app.before_request
    def begin() -> None:
        if request.method in _CHANGING and request.url_rule is not None:
            opened = request.environ[_SPAN] = ExitStack()
            name, within = f"{request.method} {request.url_rule.rule}", request.headers.get("traceparent")
            opened.enter_context(traces.span(name, within=within, kind="server"))

    @app.after_request
    def tell(response: Response) -> Response:
        if _SPAN in request.environ:
            traces.note(status=response.status_code)
        return response

    @app.teardown_request
    def end(error: BaseException | None) -> None:
        opened: ExitStack | None = request.environ.pop(_SPAN, None)
        if opened is not None:
            opened.close()
