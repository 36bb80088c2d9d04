"""One server over HTTP: asks it with the key, waits while it is away, and turns what it refuses into our errors.

What passes by itself, such as a restart of the service or a limit that was met, is waited for (`patience`). `client`
knows which routes there are.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import requests

from unmix.client.patience import Patience, Tries
from unmix.errors import AccessError, InputError, NotFoundError, UnmixError, UnreachableError

#: Longest wait for a connection, and for one answer: the check of a long song takes a while.
CONNECT_SECONDS: Final = 10
ANSWER_SECONDS: Final = 120

#: What is answered by a service that is away or has too much to do, or by the gate before it.
_PASSING: Final = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
#: Codes of such answers that only an operator makes pass.
_FOR_OPERATORS: Final = ("queue_denied", "store_denied", "store_refused", "store_read_only", "bucket_missing")
#: What requests raises where another try may go well; the certificate of a server does not get better.
_BROKEN_OFF: Final = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class Connection:
    """A server, named by its URL, and whoever asks it."""

    def __init__(self, url: str, *, key: str, patience: Patience) -> None:
        base, in_url = _without_key(url if "://" in url else f"http://{url}")
        self.base = base.rstrip("/").removesuffix("/apiv1")
        self._patience = patience
        self._session = requests.Session()
        # Bytes count as they lie there: a song compressed on its way could not be resumed.
        self._session.headers["Accept-Encoding"] = "identity"
        if in_url or key:
            self._session.auth = _Bearer(in_url or key)

    def ask(self, method: str, path: str, *, song: Path | None = None, **arguments: Any) -> requests.Response:
        """Return the answer to a request, which is sent until it is answered; `song` is its body.

        Raises:
            UnmixError: it was refused, or there was no answer in all the time that there is.
        """
        tries = Tries(self._patience)
        while True:
            try:
                return self.ask_once(method, path, song=song, **arguments)
            except UnmixError as error:
                self.wait_after(error, tries)

    def ask_once(self, method: str, path: str, *, song: Path | None = None, **arguments: Any) -> requests.Response:
        """Return the answer to a request that is sent only once; for the errors see `ask`."""
        with self.breaking_off():
            if song is None:
                answer = self._send(method, path, **arguments)
            else:
                with song.open("rb") as file:  # read as it goes out, again from its beginning at each try
                    answer = self._send(method, path, data=file, **arguments)
            if not answer.ok:
                with answer:
                    raise _refusal(answer)
        return answer

    def tries(self) -> Tries:
        """Return the tries of one more thing that is asked for."""
        return Tries(self._patience)

    def wait_after(self, error: UnmixError, tries: Tries) -> None:
        """Wait for the next try as `Tries` does, and as long as the server wants."""
        wanted = error.facts.get("retry_after_seconds", 0.0)
        tries.wait_after(error, wanted if isinstance(wanted, float) else 0.0)

    @contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Turn what goes wrong on the way into our error."""
        try:
            yield
        except requests.RequestException as error:
            passes = isinstance(error, _BROKEN_OFF) and not isinstance(error, requests.exceptions.SSLError)
            raise UnreachableError(
                f"no answer from {self.base}: {_innermost(error)}", code="rest_unavailable", retryable=passes
            ) from error

    def close(self) -> None:
        """Close what is open."""
        self._session.close()

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        url = f"{self.base}/{path}"
        return self._session.request(method, url, timeout=(CONNECT_SECONDS, ANSWER_SECONDS), **arguments)


class _Bearer(requests.auth.AuthBase):
    """Says the key; what the machine's `.netrc` has for the server does not count then."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def json_of(answer: requests.Response) -> dict[str, Any]:
    """Return the object in an answer.

    Raises:
        UnmixError: there is none (`bad_answer`).
    """
    try:
        fields = answer.json()
    except ValueError as error:
        raise bad_answer(answer) from error
    if not isinstance(fields, dict):
        raise bad_answer(answer)
    return fields


def bad_answer(answer: requests.Response) -> UnmixError:
    """Return the error for an answer that Track-Unmix would not give."""
    return UnmixError(f"{answer.url} does not answer as Track-Unmix does: is this its address?", code="bad_answer")


def _without_key(url: str) -> tuple[str, str]:
    """Return a URL without its user part, so that no message has it, and the key that it was; empty if it was none."""
    parts = urlsplit(url)
    said, separator, host = parts.netloc.rpartition("@")
    if not separator:
        return url, ""
    user, _, password = said.partition(":")
    return parts._replace(netloc=host).geturl(), unquote(user or password)


def _refusal(answer: requests.Response) -> UnmixError:
    """Return the error that an answer tells of."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    words = problem.get("detail") or problem.get("error") or f"{answer.url} answers {answer.status_code}"
    code = str(problem.get("code") or f"http_{answer.status_code}")
    return _kind_of(answer.status_code)(
        str(words),
        code=code,
        retryable=answer.status_code in _PASSING and code not in _FOR_OPERATORS,
        facts={"retry_after_seconds": _retry_after_seconds(answer.headers.get("Retry-After", ""))},
    )


def _kind_of(status: int) -> Callable[..., UnmixError]:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return AccessError
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return NotFoundError
    return InputError if 400 <= status < 500 and status not in _PASSING else UnmixError


def _retry_after_seconds(text: str) -> float:
    """Read the header `Retry-After`: seconds, or a date; 0 if it says neither."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def _innermost(error: BaseException) -> str:
    """Return the words of the error that started it all; requests wraps a refused connection four times."""
    while error.__context__ is not None:
        error = error.__context__
    words = error.strerror if isinstance(error, OSError) else None  # without the number that the system has for it
    return words or str(error)
