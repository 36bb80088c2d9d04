"""All routes, in one table: what the application answers, which function does, what may be asked, and who may ask.

The table is what registers them, and what `unmix_rest.openapi` describes. `rest/README.md` lists the same routes, and a
test compares the two.
"""

from functools import partial
from typing import Any, Final

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from unmix.access.keys import Scope
from unmix.audio.formats import MEDIA_TYPES
from unmix.job_view import JobView
from unmix_rest.answer_shapes import (
    Accepted,
    Changed,
    Failures,
    Health,
    JobPage,
    LinkView,
    Models,
    Parts,
    Peaks,
    Ready,
    Redelivery,
    Removed,
    SessionView,
    StemRemoved,
    Ticket,
    UploadView,
    UsageView,
    Version,
    Waiting,
)
from unmix_rest.http.lanes import Lane
from unmix_rest.http.route import Answer, Audience, Route
from unmix_rest.routes import (
    callbacks,
    description,
    errors,
    events,
    jobs,
    links,
    models,
    ops,
    page,
    parameters,
    parts,
    separate,
    session,
    tracks,
    uploads,
    usage,
)
from unmix_rest.services import Services

#: What names a job: its hash.
_JOB = {"job_id": "/hash"}


def _download(*media_types: str, shape: type | None = None) -> tuple[Answer, ...]:
    """Return the answers of a route that hands out a file."""
    headers = {
        "ETag": "the SHA-256 of the file",
        "Accept-Ranges": "`bytes`",
        "Content-Disposition": "the name to save it under",
    }
    return (
        Answer("the file", shape, media_types, headers=headers),
        Answer("the range that was asked for", None, media_types, 206, {**headers, "Content-Range": "which one it is"}),
        Answer("the client has it already", None, (), 304),
    )


def _page_file(*media_types: str) -> tuple[Answer, ...]:
    """Return the answers of a route that hands out the page or a file of it."""
    return (
        Answer("the page, or a file of it", None, media_types),
        Answer("the client has it already", None, (), 304),
    )


_EVENTS = Answer(
    "Server-Sent Events, each with JSON: hash, status, position, progress, attempt, eta_seconds, parts, error_code",
    {"type": "string"},
    ("text/event-stream",),
)
_STEM_TYPES = (*MEDIA_TYPES.values(), tracks.UNKNOWN_TYPE)

ROUTES: Final = (
    Route(
        "/apiv1/separate", ("POST",), separate.submit, Lane.UPLOADS, takes_songs=True,
        scope=Scope.SUBMIT, bodies=parameters.OLD_SONG, errors=errors.SONG,
        answers=(Answer("the song is owed", Accepted, names=_JOB),),
    ),
    Route(
        "/apiv1/jobs", ("POST",), separate.submit_job, Lane.UPLOADS, is_new=True, takes_songs=True, may_wait=True,
        scope=Scope.SUBMIT,
        parameters=(parameters.WAIT, parameters.PREFER, *parameters.SONG_IN_QUERY), bodies=parameters.SONG,
        errors=(*errors.SONG, *errors.UPLOAD, "upload_incomplete", *errors.SONG_URL),
        answers=(Answer("the job", JobView, status=202, headers={"Location": "its URL"}, names=_JOB),),
    ),
    Route(
        "/apiv1/jobs", ("GET",), jobs.jobs, is_new=True,
        scope=Scope.READ, parameters=parameters.SEARCH, errors=("invalid_field", *errors.QUEUE),
        answers=(Answer("a page of the list", JobPage),),
    ),
    Route(
        "/apiv1/jobs/<job_id>", ("GET",), jobs.job, may_wait=True,
        scope=Scope.READ, parameters=(parameters.WAIT, parameters.PREFER),
        errors=("not_found", "invalid_field", *errors.QUEUE, *errors.STORE),
        answers=(Answer("the job as it stands", JobView),),
    ),
    Route(
        "/apiv1/jobs/<job_id>/events", ("GET",), events.job_events, Lane.STAYING, is_new=True,
        scope=Scope.READ, parameters=(parameters.LAST_EVENT_ID,),
        errors=("not_found", "too_many_watchers", *errors.QUEUE, *errors.STORE),
        answers=(_EVENTS, Answer("the client knows the end already", None, (), 204)),
    ),
    Route(
        "/apiv1/events", ("GET",), events.batch_events, Lane.STAYING, is_new=True,
        scope=Scope.READ, parameters=(parameters.BATCH, parameters.LAST_EVENT_ID),
        errors=("missing_field", "too_many_watchers"),
        answers=(_EVENTS,),
    ),
    Route(
        "/apiv1/jobs/<job_id>", ("DELETE",), tracks.delete_job,
        scope=Scope.DELETE, errors=("not_found", *errors.QUEUE, *errors.STORE_WRITTEN),
        answers=(Answer("it is gone", None, (), 204),),
    ),
    Route(
        "/apiv1/jobs/<job_id>/cancel", ("POST",), jobs.cancel,
        scope=Scope.SUBMIT, errors=("not_found", "job_over", *errors.QUEUE, *errors.STORE_WRITTEN),
        answers=(Answer("it is cancelled", Changed),),
    ),
    Route(
        "/apiv1/jobs/<job_id>/retry", ("POST",), jobs.retry,
        scope=Scope.SUBMIT,
        errors=(
            *("not_found", "not_retryable", "song_gone", "backlog_full", "too_long"),
            *(*errors.QUEUE, *errors.STORE_WRITTEN),
        ),
        answers=(Answer("it is owed", Changed),),
    ),
    Route(
        "/apiv1/jobs/<job_id>/callbacks/<index>/redeliver", ("POST",), callbacks.redeliver,
        scope=Scope.SUBMIT,
        errors=(
            *("not_found", "unknown_callback", "job_not_over", "not_retryable", "callback_unwanted"),
            *(*errors.QUEUE, *errors.STORE_WRITTEN),
        ),
        answers=(Answer("it is owed", Redelivery, status=202),),
    ),
    Route(
        "/apiv1/jobs/<job_id>/parts", ("GET",), parts.parts,
        scope=Scope.READ, parameters=(parameters.OFFSET, parameters.LIMIT),
        errors=("not_found", "invalid_field", *errors.QUEUE, *errors.STORE),
        answers=(Answer("some of its parts", Parts),),
    ),
    Route(
        "/apiv1/jobs/<job_id>/parts/<int:index>/<stem>", ("GET",), parts.part,
        scope=Scope.READ, parameters=parameters.DOWNLOAD,
        errors=("not_found", *errors.DOWNLOAD, *errors.QUEUE, *errors.STORE),
        answers=_download(MEDIA_TYPES["flac"]),
    ),
    Route(
        "/apiv1/jobs/<job_id>/peaks", ("GET",), parts.peaks,
        scope=Scope.READ, parameters=parameters.DOWNLOAD, errors=("not_found", *errors.DOWNLOAD, *errors.STORE),
        answers=_download("application/json", shape=Peaks),
    ),
    Route(
        "/apiv1/jobs/<job_id>/links", ("POST",), links.make_link, is_new=True,
        scope=Scope.READ, bodies=parameters.HOURS, needs_body=False,
        errors=("not_found", "no_keys", "invalid_field", *errors.JSON_BODY, *errors.QUEUE, *errors.STORE_WRITTEN),
        answers=(Answer("the link", LinkView, status=201),),
    ),
    Route(
        "/apiv1/uploads", ("POST",), uploads.open_upload, is_new=True,
        scope=Scope.SUBMIT, bodies=parameters.SIZE, needs_body=False,
        errors=(*errors.JSON_BODY, "invalid_field", "backlog_full", *errors.QUEUE, *errors.STORE_WRITTEN),
        answers=(
            Answer(
                "the ticket", Ticket, status=201,
                headers={"Location": "where to ask how far it is", "Upload-Offset": "`0`"},
                names={"upload_id": "/upload_id"},
            ),
        ),
    ),
    Route(
        "/apiv1/uploads/<upload_id>", ("GET",), uploads.upload,
        scope=Scope.SUBMIT, errors=(*errors.UPLOAD, *errors.STORE),
        answers=(Answer("how far it is", UploadView, headers={"Upload-Offset": "the byte that it goes on at"}),),
    ),
    Route(
        "/apiv1/uploads/<upload_id>", ("PUT",), uploads.put_piece, Lane.UPLOADS, is_new=True,
        scope=Scope.SUBMIT, parameters=(parameters.CONTENT_RANGE,), bodies=parameters.PIECE, errors=errors.PIECE,
        answers=(Answer("how far it is", UploadView, headers={"Upload-Offset": "the byte that it goes on at"}),),
    ),
    Route(
        "/apiv1/usage", ("GET",), usage.usage,
        scope=Scope.SUBMIT, errors=errors.QUEUE, answers=(Answer("what is used", UsageView),),
    ),
    Route(
        "/apiv1/models", ("GET",), models.models,
        scope=Scope.PUBLIC, errors=errors.QUEUE, answers=(Answer("the models", Models),),
    ),
    Route(
        "/apiv1/queue", ("GET",), jobs.queue,
        scope=Scope.READ, parameters=(parameters.OFFSET, parameters.LIMIT), errors=("invalid_field", *errors.QUEUE),
        answers=(Answer("what waits and runs", Waiting),),
    ),
    Route(
        "/apiv1/failed", ("GET",), jobs.failed, audience=Audience.OPERATORS,
        scope=Scope.READ, parameters=(parameters.OFFSET, parameters.LIMIT),
        errors=("invalid_field", *errors.QUEUE, *errors.STORE), answers=(Answer("what failed", Failures),),
    ),
    Route(
        "/apiv1/jobs/<job_id>/stems.zip", ("GET",), tracks.all_stems, Lane.STAYING,
        scope=Scope.READ, parameters=parameters.ARCHIVE,
        errors=("not_found", "too_many_downloads", *errors.STORE),
        answers=(
            Answer(
                "the stems", None, ("application/zip",),
                headers={"ETag": "weak, of all stems", "Content-Disposition": "the name to save it under"},
            ),
            Answer("the client has it already", None, (), 304),
        ),
    ),
    Route(
        "/apiv1/track/<job_id>/<track>", ("GET",), tracks.track, Lane.STAYING,
        scope=Scope.READ, parameters=parameters.DOWNLOAD,
        errors=(*errors.STEM, *errors.DOWNLOAD, *errors.QUEUE, *errors.STORE), answers=_download(*_STEM_TYPES),
    ),
    Route(
        "/apiv1/track", ("GET",), tracks.track_by_query, Lane.STAYING,
        scope=Scope.READ, parameters=(*parameters.STEM_IN_QUERY, *parameters.DOWNLOAD),
        errors=(*errors.STEM, "missing_field", *errors.DOWNLOAD, *errors.QUEUE, *errors.STORE),
        answers=_download(*_STEM_TYPES),
    ),
    Route(
        "/apiv1/remove/<job_id>/<track>", ("GET", "DELETE"), tracks.remove_stem,
        scope=Scope.DELETE, errors=(*errors.STEM, *errors.QUEUE, *errors.STORE_WRITTEN),
        answers=(Answer("it is gone", StemRemoved),),
    ),
    Route(
        "/apiv1/remove/<job_id>", ("GET", "DELETE"), tracks.remove_job,
        scope=Scope.DELETE, errors=("not_found", *errors.QUEUE, *errors.STORE_WRITTEN),
        answers=(Answer("it is gone", Removed),),
    ),
    Route(
        "/apiv1/remove", ("GET", "DELETE"), tracks.remove_by_query,
        scope=Scope.DELETE, parameters=parameters.REMOVED_IN_QUERY,
        errors=(*errors.STEM, "missing_field", *errors.QUEUE, *errors.STORE_WRITTEN),
        answers=(Answer("it is gone", {"type": "object", "required": ["hash", "reason"]}),),
    ),
    Route(
        "/apiv1/session", ("GET",), session.session,
        scope=Scope.PUBLIC, errors=errors.STORE, answers=(Answer("who the browser is", SessionView),),
    ),
    Route(
        "/apiv1/session", ("POST",), session.sign_in, is_new=True,
        scope=Scope.PUBLIC, bodies=parameters.KEY, needs_body=False,
        errors=("bad_key", *errors.JSON_BODY, *errors.FIELDS, *errors.STORE_WRITTEN),
        answers=(
            Answer("the browser is signed in", SessionView, status=201, headers={"Set-Cookie": "`unmix_session`"}),
            Answer("no key is wanted here", SessionView),
        ),
    ),
    Route(
        "/apiv1/session", ("DELETE",), session.sign_out,
        scope=Scope.PUBLIC,
        answers=(Answer("the cookie is gone", None, (), 204, {"Set-Cookie": "`unmix_session`, empty"}),),
    ),
    Route(
        "/apiv1/openapi.json", ("GET",), description.openapi,
        scope=Scope.PUBLIC, answers=(Answer("this document", {"type": "object"}),),
    ),
    Route(
        "/apiv1/docs", ("GET",), description.docs,
        scope=Scope.PUBLIC, answers=(Answer("a page", None, ("text/html",)),),
    ),
    Route(
        "/apiv1/docs.css", ("GET",), description.style,
        scope=Scope.PUBLIC, answers=(Answer("a style sheet", None, ("text/css",)),),
    ),
    Route("/", ("GET",), page.home, scope=Scope.PUBLIC, answers=_page_file("text/html")),
    Route("/", ("POST",), ops.hello, scope=Scope.PUBLIC, answers=(Answer("a page", None, ("text/html",)),)),
    Route("/ui", ("GET",), page.ui, scope=Scope.PUBLIC, answers=_page_file("text/html")),
    Route(
        "/static/<path:file>", ("GET",), page.static_file,
        scope=Scope.PUBLIC, errors=("not_found",), answers=_page_file(*dict.fromkeys(page.TYPES.values())),
    ),
    Route(
        "/healthz", ("GET",), ops.healthz, audience=Audience.EVERYBODY,
        scope=Scope.PUBLIC, answers=(Answer("it lives", Health),),
    ),
    Route(
        "/readyz", ("GET",), ops.readyz, audience=Audience.OPERATORS,
        scope=Scope.PUBLIC, errors=("not_ready",), answers=(Answer("both answer", Ready),),
    ),
    Route(
        "/metrics", ("GET",), ops.metrics, audience=Audience.OPERATORS,
        scope=Scope.ADMIN, answers=(Answer("metrics", None, ("text/plain",)),),
    ),
    Route(
        "/version", ("GET",), ops.show_version, audience=Audience.EVERYBODY,
        scope=Scope.PUBLIC, answers=(Answer("the version", Version),),
    ),
)  # fmt: skip

_ROUTES: Final = {route.endpoint: route for route in ROUTES}
#: Nobody asks with another method for what brings a song: most requests need not be looked up twice.
_UPLOADING_METHODS: Final = {method for route in ROUTES if route.lane is Lane.UPLOADS for method in route.methods}
#: Nor for what has other words in its path with patience.
_STAYING_WORDS: Final = {
    [f"/{part}" for part in route.rule.split("/") if "<" not in part][-1]
    for route in ROUTES
    if route.lane is Lane.STAYING
}


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
    if method not in _UPLOADING_METHODS and not would_wait and not any(word in path for word in _STAYING_WORDS):
        return (Lane.QUICK,)
    try:
        endpoint, _ = urls.bind("rest").match("/" + path.lstrip("/"), method)
    except HTTPException:  # no such route, another method, or a redirect
        return (Lane.QUICK,)
    route = _ROUTES[endpoint]
    return (Lane.STAYING, route.lane) if would_wait and route.may_wait else (route.lane,)
