"""The routes for those who run the service: `/`, `/healthz`, `/readyz`, `/metrics`, `/version`."""

from importlib.metadata import version
from typing import Final

from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST

from unmix import names
from unmix.errors import QueueError, StoreError
from unmix_rest.answer_shapes import Health, Ready, Version
from unmix_rest.http.answers import json_answer
from unmix_rest.http.problems import STATUS, problem
from unmix_rest.services import Services
from unmix_rest.workforce import workers

VERSION: Final = version("track-unmix")

HELLO: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Track-Unmix</title></head>
<body><h1>Track-Unmix</h1>
<p>Music separation: POST a song to <code>/apiv1/separate</code>, get its stems back.</p></body>
</html>
"""


def hello(services: Services) -> Response:
    """Say hello to old clients, who let their callbacks come here; load balancers ask for the same by `page.home`."""
    return Response(HELLO, mimetype="text/html")


def healthz(services: Services) -> Response:
    """Tell that the process lives."""
    return json_answer(Health("ok"))


def readyz(services: Services) -> Response:
    """Tell whether Redis and the object store answer, take what is written, and have room for songs.

    And what shuts the check of songs in, and whether workers are there: without one songs are taken in all the same.
    """
    checks = {"redis": _check_queue(services), "store": _check_store(services)}
    if set(checks.values()) == {"ok"}:
        checks |= _check_room(services)
    away = [name for name, state in checks.items() if state != "ok"]
    if away:
        return problem("not_ready", f"away: {', '.join(away)}", status=STATUS["not_ready"], checks=checks)
    told = workers(services.queue.attendance, in_detail=True)
    return json_answer(Ready("ok", checks, services.decoder_sandbox, told))


def metrics(services: Services) -> Response:
    """Tell Prometheus what this process did."""
    return Response(services.metrics.render(services.queue.ping), content_type=CONTENT_TYPE_LATEST)


def show_version(services: Services) -> Response:
    """Tell which version this is."""
    return json_answer(Version("track-unmix", VERSION))


def _check_queue(services: Services) -> str:
    try:
        services.queue.room.check_writing()
    except QueueError as error:
        return error.code
    return "ok"


def _check_store(services: Services) -> str:
    try:
        services.store.stat(names.PROBE)  # tells a missing bucket, which a put might make
        services.store.put(names.PROBE, b"written by /readyz")
        services.store.remove(names.PROBE)
    except StoreError as error:
        return error.code
    return "ok"


def _check_room(services: Services) -> dict[str, str]:
    """Return what has no room for songs, though it takes what is small."""
    try:
        services.admission.refuse_all()
    except QueueError as error:
        return {"redis": error.code}
    except StoreError as error:
        return {"store": error.code}
    return {}
