"""What a request says of who sends it: a key in `Authorization`, or a browser's session. Nothing is checked here."""

from dataclasses import dataclass
from typing import Final

from flask import Request

from unmix.access.keys import is_key

#: The cookie of a session.
COOKIE: Final = "unmix_session"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key as it was said, or a session as it was sealed; neither where nothing was said."""

    key: str | None = None
    session: str | None = None


def credentials_of(request: Request) -> Credentials:
    """Return what a request says; `Authorization` counts before the cookie, which a browser sends of itself.

    `Bearer` has a key, and so has the user or the password of `Basic`: clients make that of `http://key@host`.
    """
    if "Authorization" in request.headers:
        said = request.authorization
        if said is None:
            return Credentials(key="")
        if said.type == "basic":
            named = [text for text in (said.username, said.password) if text]
            return Credentials(key=next(filter(is_key, named), named[0] if named else ""))
        return Credentials(key=said.token if said.type == "bearer" and said.token else "")
    return Credentials(session=request.cookies.get(COOKIE))
