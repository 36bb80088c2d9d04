"""`/apiv1/session`: a browser signs in with a key, and is known by a cookie from then on that no script can read.

The cookie is not the key: it ends with the key, or after a while by itself, and does not work elsewhere.
"""

from http import HTTPStatus
from typing import Final

from flask import Response, request

from unmix.access.keys import Key
from unmix.errors import AccessError, InputError
from unmix_rest.answer_shapes import SessionView
from unmix_rest.http.answers import json_answer
from unmix_rest.http.credentials import COOKIE
from unmix_rest.http.uploads import small_object
from unmix_rest.services import Services

#: More than a key needs; whoever signs in is a stranger until then.
_MOST_BYTES: Final = 4096


def session(services: Services) -> Response:
    """Tell whether this service wants a key, and whose the browser has."""
    try:
        key = services.access.key_of(request) if services.access.needs_key else None
    except AccessError:
        key = None
    return _tell(services, key)


def sign_in(services: Services) -> Response:
    """Take a key, in the body or in `Authorization`, and set the cookie."""
    text = _said_key()
    if not services.access.needs_key:
        return _tell(services, None)
    key = services.access.key(text) if text is not None else services.access.key_of(request)
    if key is None:
        raise InputError("the body has to have a key", code="missing_field")
    sealed, made = services.access.session_of(key)
    answer = _tell(services, key, HTTPStatus.CREATED)
    _keep(answer, sealed, until=made.ends_at)
    return answer


def sign_out(services: Services) -> Response:
    """Have the browser forget its cookie."""
    answer = Response(status=HTTPStatus.NO_CONTENT)
    _keep(answer, "", until=0)
    return answer


def _said_key() -> str | None:
    key = small_object(request, most_bytes=_MOST_BYTES).get("key")
    if not isinstance(key, str | None):
        raise InputError("the field key has to be text", code="invalid_field")
    return key.strip() if key else None


def _keep(answer: Response, cookie: str, *, until: int) -> None:
    """Have the browser keep the cookie: never told to scripts, nor sent because a page elsewhere wants it."""
    answer.set_cookie(COOKIE, cookie, expires=until, httponly=True, samesite="Strict", secure=request.is_secure)


def _tell(services: Services, key: Key | None, status: int = HTTPStatus.OK) -> Response:
    view = SessionView(
        services.access.needs_key,
        key.name if key else None,
        key.tenant if key else None,
        key.scopes if key else (),
        key.expires_at if key else None,
    )
    answer = json_answer(view, status)
    answer.headers["Cache-Control"] = "no-store"
    return answer
