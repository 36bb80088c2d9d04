"""Errors as answers: the one table from codes to HTTP statuses, and the one form that every error has.

An error is RFC 9457 `application/problem+json` with a stable `code`, and `error` and `reason` beside it, which older
clients look for. Nothing that a client sent is ever repeated in it, and nothing of our insides shown.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.routing import RoutingException

from unmix.errors import UnmixError
from unmix_rest.http.route import Route
from unmix_rest.metrics import Metrics

log = structlog.get_logger()

#: What an error's code is answered with. `rest/README.md` describes each, kept complete by a test.
STATUS: Final[Mapping[str, int]] = {
    # the request as such
    "bad_request": 400,
    "invalid_json": 400,
    "invalid_json_shape": 400,
    "duplicate_key": 400,
    "incomplete_body": 400,
    "client_gone": 400,
    "bad_content_range": 400,
    "key_required": 401,
    "bad_key": 401,
    "scope_missing": 403,
    "bad_link": 403,
    "no_keys": 409,
    "foreign_page": 403,
    "unknown_host": 421,
    "not_found": 404,
    "unknown_upload": 404,
    "method_not_allowed": 405,
    "job_over": 409,
    "not_retryable": 409,
    "upload_used": 409,
    "upload_incomplete": 409,
    "wrong_offset": 409,
    "job_not_over": 409,
    "callback_unwanted": 409,
    "unknown_callback": 404,
    "song_gone": 410,
    "too_slow": 408,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "unsupported_encoding": 415,
    "range_not_satisfiable": 416,
    "headers_too_large": 431,
    "too_many_requests": 429,
    "quota_exceeded": 429,
    "not_implemented": 501,
    "precondition_failed": 412,
    # its fields
    "missing_field": 400,
    "invalid_field": 400,
    "invalid_base64": 400,
    "empty_audio": 400,
    "piece_too_small": 422,
    "unknown_model": 422,
    "weights_not_open": 422,
    "unknown_format": 422,
    "unknown_bits": 422,
    "unknown_rate": 422,
    "unknown_bitrate": 422,
    "unknown_precision": 422,
    "unknown_stem": 400,
    "out_of_range": 422,
    "bad_region": 422,
    "callback_scheme": 422,
    "callback_forbidden": 422,
    "too_many_callbacks": 422,
    "song_urls_off": 403,
    "song_url_scheme": 422,
    "song_url_forbidden": 422,
    # the song
    "not_audio": 415,
    "unsupported_container": 415,
    "undecodable": 422,
    "too_costly": 422,
    "no_audio_frames": 422,
    "too_short": 422,
    "too_long": 422,
    "bad_sample_rate": 422,
    "bad_channels": 422,
    "bad_samples": 422,
    "too_many_streams": 422,
    "external_reference": 422,
    # we ourselves
    "internal_error": 500,
    "not_ready": 503,
    "rest_unavailable": 503,
    "rest_timeout": 504,
    "too_many_watchers": 503,
    "too_many_downloads": 503,
    "no_room": 503,
    "probe_unavailable": 503,
    "queue_full": 503,
    "backlog_full": 503,
    "queue_unavailable": 503,
    "queue_denied": 503,
    "store_unavailable": 503,
    "store_denied": 503,
    "store_full": 507,
    "store_read_only": 503,
    "store_refused": 503,
    "bucket_missing": 503,
}

#: Old clients send JSON and expect 400 for a wrong field; multipart forms, and what is new, are answered with 422.
NEW_STATUS: Final[Mapping[str, int]] = {
    "missing_field": 422,
    "invalid_field": 422,
    "invalid_base64": 422,
    "empty_audio": 422,
    "unknown_stem": 422,
}

RETRY_AFTER_SECONDS: Final = 5

#: How to say a key. Not `Basic` too, though it is understood: browsers would ask people for a user and a password.
_CHALLENGE: Final = 'Bearer realm="track-unmix"'

_HTTP_CODES: Final = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    431: "headers_too_large",
    408: "too_slow",
    501: "not_implemented",
    503: "no_room",
}

_DETAILS: Final = {
    "bad_request": "the request is not well-formed HTTP",
    "incomplete_body": "the body ended before it was complete",
    "not_found": "there is nothing here",
    "method_not_allowed": "this route knows other methods, see the header Allow",
    "payload_too_large": "the body is larger than this service accepts; of songs UNMIX_MAX_UPLOAD_MB says how large",
    "unsupported_media_type": "the body is neither JSON nor a multipart form",
    "range_not_satisfiable": "the stem has no such range; one range of bytes can be asked for",
    "headers_too_large": "the headers are larger than this service accepts",
    "too_slow": "the body came too slowly; send it again",
    "not_implemented": "this transfer encoding is not known here",
    "internal_error": "something is wrong in this service; its log knows the request_id",
    "too_many_watchers": "as many clients watch as this service can tell; try again, or ask for the job itself",
    "too_many_downloads": "there is no room for another such download; try again, or fetch each stem by itself",
    "no_room": "there is no room for what you send at the moment; try again",
    "probe_unavailable": "songs cannot be checked at the moment; try again",
    "queue_unavailable": "the queue is away; nothing was accepted, try again",
    "store_unavailable": "the object store is away; nothing was accepted, try again",
    "queue_full": "the queue has no room for another song; nothing was accepted, try again later",
    "backlog_full": "a song sent now would wait too long for a worker; nothing was accepted, try again later",
    "store_full": "there is no room for another song; nothing was accepted, and what is removed makes room",
}
_DETAIL_OF_OURS: Final = "this service cannot do its work at the moment; its operator must look"


@dataclass(frozen=True, slots=True)
class Problem:
    """An error (RFC 9457). Programs look at `code`; what some codes tell besides, such as `offset`, stands beside."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    error: str
    reason: str


def statuses(code: str, *, is_new: bool, is_old: bool) -> set[int]:
    """Return what a code is answered with where the request may be new, old, or either."""
    new, old = NEW_STATUS.get(code, STATUS[code]), STATUS[code]
    return {status for status, may_be in ((new, is_new), (old, is_old)) if may_be}


def problem(code: str, detail: str, *, status: int, request_id: str = "", **more: object) -> Response:
    """Return an error in the form that all errors have; `more` are further members, such as `retry_after_seconds`."""
    response = Response(problem_json(code, detail, status=status, request_id=request_id, **more), status)
    response.mimetype = "application/problem+json"
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        response.headers["Retry-After"] = str(more.get("retry_after_seconds", RETRY_AFTER_SECONDS))
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = _CHALLENGE
    return response


def problem_json(code: str, detail: str, *, status: int, request_id: str = "", **more: object) -> bytes:
    """Return the body of an error."""
    request_id = request_id or new_request_id()
    told = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=f"urn:uuid:{request_id}",
        code=code,
        request_id=request_id,
        error=detail,
        reason=detail,
    )
    return json.dumps({**asdict(told), **more}).encode()


def http_problem_json(status: int) -> bytes:
    """Return the body of an error that is known by its status alone."""
    code = _HTTP_CODES.get(status, "bad_request" if status < 500 else "internal_error")
    return problem_json(code, _DETAILS[code], status=status)


def new_request_id() -> str:
    """Return a fresh name for one failed request, by which the log can be searched."""
    return str(uuid.uuid4())


def register(app: Flask, metrics: Metrics, routes: Sequence[Route]) -> None:
    """Make `app` answer every error as a problem, in the way of its route."""
    by_endpoint = {route.endpoint: route for route in routes}
    rejected = partial(_rejected, metrics, by_endpoint)

    def answer_known(error: UnmixError) -> Response:
        return rejected(error.code, error.message, error)

    def answer_http(error: HTTPException) -> Response | HTTPException:
        if isinstance(error, RoutingException):
            return error  # a redirect to the same route in its canonical spelling
        code = "incomplete_body" if isinstance(error, ClientDisconnected) else _HTTP_CODES.get(error.code or 0)
        if code is None:  # whatever it is, it is not the request's fault: a handler of errors may have failed
            return answer_unknown(error)
        response = rejected(code, _DETAILS[code], error)
        for name, value in error.get_headers():
            if name in ("Allow", "Content-Range"):
                response.headers[name] = value
        return response

    def answer_unknown(error: Exception) -> Response:
        return rejected("internal_error", "", error)

    app.register_error_handler(UnmixError, answer_known)
    app.register_error_handler(HTTPException, answer_http)
    app.register_error_handler(Exception, answer_unknown)


def _rejected(metrics: Metrics, by_endpoint: Mapping[str, Route], code: str, detail: str, error: Exception) -> Response:
    """Log the error and answer it; what is our own fault is told in our own words only."""
    code = code if code in STATUS else "internal_error"
    route = by_endpoint.get(request.endpoint or "")
    is_new = request.mimetype == "multipart/form-data" or (route is not None and route.is_new)
    (status,) = statuses(code, is_new=is_new, is_old=not is_new)
    request_id = new_request_id()
    metrics.failed(code)
    if status >= 500:
        detail = _DETAILS.get(code, _DETAIL_OF_OURS)
        unforeseen = error if code == "internal_error" else None
        log.error("request failed", code=code, request_id=request_id, error=str(error), exc_info=unforeseen)
    if route is not None and route.takes_songs:
        metrics.rejected(code)
        if status < 500:
            log.info("rejected", code=code, request_id=request_id)
    facts = error.facts if isinstance(error, UnmixError) else {}
    return problem(code, detail, status=status, request_id=request_id, **facts)
