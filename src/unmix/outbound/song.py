"""The fetching of a song that a client gave by its URL: a GET, redirects under the same guard, bounds on size and time.

Workers do it, for a job that is theirs. Whether what came is a song is found out when it is decoded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

from unmix.errors import EngineError, InputError, UnreachableError
from unmix.outbound.address import Guard, Resolver, Target, resolve_host
from unmix.outbound.call import Answer, call

MOST_REDIRECTS: Final = 5
CHUNK_BYTES: Final = 64 * 1024

_REDIRECTS: Final = (301, 302, 303, 307, 308)
#: Answers after which it may go well another time.
_PASSING: Final = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class SongLimits:
    """How large a fetched song may be, and how long it may take in all, in seconds."""

    size_bytes: int
    seconds: float


def fetch_song_url(
    url: str,
    path: Path,
    *,
    guard: Guard,
    limits: SongLimits,
    go_on: Callable[[], None],
    resolve: Resolver = resolve_host,
) -> None:
    """Write what lies at `url` to `path`. `go_on` is called with every piece and while none comes, and may end it.

    It does by raising, which has to be all the same in another thread, and when it is called again.

    Raises:
        EngineError: it was not there, not whole or not in time (`song_url_failed`), it lies where this service may not
            be made to ask (`song_url_forbidden`, `song_url_scheme`), or is too large (`payload_too_large`);
            `retryable` says whether it may go well another time.
    """
    deadline = time.monotonic() + limits.seconds
    for _ in range(MOST_REDIRECTS + 1):
        go_on()
        try:
            target = guard.target(url)
            addresses = guard.addresses(target, resolve)
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                raise _failed("its servers take too long", retryable=True)
            headers = {"Accept-Encoding": "identity"}
            with call("GET", target, addresses, headers=headers, seconds=seconds, go_on=go_on) as answer:
                if answer.response.status not in _REDIRECTS:
                    _check(answer, limits)
                    _write(answer, path, limits, go_on)
                    return
                url = _next_url(answer, target)
        except InputError as error:
            raise EngineError(f"the song's URL: {error.message}", code=error.code) from error
        except UnreachableError as error:
            go_on()  # it may be this that has ended the call
            if error.code == f"{guard.purpose}_forbidden":
                raise EngineError(f"the song's URL: {error.message}", code=error.code) from error
            raise _failed(error.message, retryable=True) from error
    raise _failed(f"it leads on more than {MOST_REDIRECTS} times", retryable=False)


def _next_url(answer: Answer, target: Target) -> str:
    location = answer.response.headers.get("Location")
    if not location:
        raise _failed("the server sends us on and does not say where to", retryable=False)
    try:
        return urljoin(target.url.geturl(), location)
    except ValueError as error:
        raise _failed("the server sends us on to what is no URL", retryable=False) from error


def _check(answer: Answer, limits: SongLimits) -> None:
    """Raise unless the answer has a song that is not too large, as far as its head says."""
    status, headers = answer.response.status, answer.response.headers
    if status != HTTPStatus.OK:
        passing = status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        raise _failed(f"the server answered {status}", retryable=passing)
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml"):
        raise _failed("it leads to a web page and not to the song itself", retryable=False)
    if headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise _failed("the server sends the song compressed although it was asked not to", retryable=False)
    length = headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limits.size_bytes:
        raise _too_large(limits)


def _write(answer: Answer, path: Path, limits: SongLimits, go_on: Callable[[], None]) -> None:
    size_bytes = 0
    with path.open("wb") as file:
        while piece := answer.response.read1(CHUNK_BYTES, decode_content=False):
            size_bytes += len(piece)
            if size_bytes > limits.size_bytes:
                raise _too_large(limits)
            file.write(piece)
            go_on()
    if answer.is_cut_off:
        raise UnreachableError("the server took too long")


def _too_large(limits: SongLimits) -> EngineError:
    text = f"the song is larger than the {limits.size_bytes >> 20} MiB that are taken here (UNMIX_MAX_UPLOAD_MB)"
    return EngineError(text, code="payload_too_large")


def _failed(why: str, *, retryable: bool) -> EngineError:
    return EngineError(f"the song's URL: {why}", code="song_url_failed", retryable=retryable)
