"""All routes, in one table: what the application answers, which function does, and how its errors are told.

The table is what registers them. `rest/README.md` lists the same routes, and a test compares the two.
"""

from functools import partial
from typing import Any, Final

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from unmix_rest.http.lanes import Lane
from unmix_rest.http.route import Route
from unmix_rest.routes import callbacks, events, jobs, models, ops, parts, separate, tracks, uploads
from unmix_rest.services import Services

ROUTES: Final = (
    Route("/apiv1/separate", ("POST",), separate.submit, Lane.UPLOADS, takes_songs=True),
    Route("/apiv1/jobs", ("POST",), separate.submit_job, Lane.UPLOADS, is_new=True, takes_songs=True, may_wait=True),
    Route("/apiv1/jobs", ("GET",), jobs.jobs, is_new=True),
    Route("/apiv1/jobs/<job_id>", ("GET",), jobs.job, may_wait=True),
    Route("/apiv1/jobs/<job_id>/events", ("GET",), events.job_events, Lane.STAYING, is_new=True),
    Route("/apiv1/events", ("GET",), events.batch_events, Lane.STAYING, is_new=True),
    Route("/apiv1/jobs/<job_id>", ("DELETE",), tracks.delete_job),
    Route("/apiv1/jobs/<job_id>/cancel", ("POST",), jobs.cancel),
    Route("/apiv1/jobs/<job_id>/retry", ("POST",), jobs.retry),
    Route("/apiv1/jobs/<job_id>/callbacks/<index>/redeliver", ("POST",), callbacks.redeliver),
    Route("/apiv1/jobs/<job_id>/parts", ("GET",), parts.parts),
    Route("/apiv1/jobs/<job_id>/parts/<int:index>/<stem>", ("GET",), parts.part),
    Route("/apiv1/jobs/<job_id>/peaks", ("GET",), parts.peaks),
    Route("/apiv1/uploads", ("POST",), uploads.open_upload, is_new=True),
    Route("/apiv1/uploads/<upload_id>", ("GET",), uploads.upload),
    Route("/apiv1/uploads/<upload_id>", ("PUT",), uploads.put_piece, Lane.UPLOADS, is_new=True),
    Route("/apiv1/models", ("GET",), models.models),
    Route("/apiv1/queue", ("GET",), jobs.queue),
    Route("/apiv1/failed", ("GET",), jobs.failed),
    Route("/apiv1/jobs/<job_id>/stems.zip", ("GET",), tracks.all_stems, Lane.STAYING),
    Route("/apiv1/track/<job_id>/<track>", ("GET",), tracks.track),
    Route("/apiv1/track", ("GET",), tracks.track_by_query),
    Route("/apiv1/remove/<job_id>/<track>", ("GET", "DELETE"), tracks.remove_stem),
    Route("/apiv1/remove/<job_id>", ("GET", "DELETE"), tracks.remove_job),
    Route("/", ("GET", "POST"), ops.hello),
    Route("/healthz", ("GET",), ops.healthz),
    Route("/readyz", ("GET",), ops.readyz),
    Route("/metrics", ("GET",), ops.metrics),
    Route("/version", ("GET",), ops.show_version),
)

_ROUTES: Final = {route.endpoint: route for route in ROUTES}
#: Nobody asks with another method for what brings a song: most requests need not be looked up twice.
_UPLOADING_METHODS: Final = {method for route in ROUTES if route.lane is Lane.UPLOADS for method in route.methods}
#: Nor for what ends otherwise with patience.
_STAYING_ENDS: Final = tuple({"/" + route.rule.rpartition("/")[2] for route in ROUTES if route.lane is Lane.STAYING})


def register(app: Flask, services: Services) -> None:
    """Make `app` answer every route of the table."""
    for route in ROUTES:
        app.add_url_rule(route.rule, route.endpoint, partial(route.view, services), methods=route.methods)


def lanes_of(urls: Map, request: Any) -> tuple[Lane, ...]:
    """Return who waits for a request with whom, the best lane first, by the application's own map of URLs.

    `request` is as waitress has read it.
    """
    method, path = request.command.upper(), request.path
    would_wait = "wait=" in request.query or "wait=" in request.headers.get("PREFER", "").lower()
    if method not in _UPLOADING_METHODS and not would_wait and not path.rstrip("/").endswith(_STAYING_ENDS):
        return (Lane.QUICK,)
    try:
        endpoint, _ = urls.bind("rest").match("/" + path.lstrip("/"), method)
    except HTTPException:  # no such route, another method, or a redirect
        return (Lane.QUICK,)
    route = _ROUTES[endpoint]
    return (Lane.STAYING, route.lane) if would_wait and route.may_wait else (route.lane,)
