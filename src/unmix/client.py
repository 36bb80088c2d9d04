"""A small client of the REST API: send a song, watch its job, fetch the stems.

`unmix submit` is built on it. It speaks plain HTTP and knows nothing of the queue or the store; what the server
refuses comes back as an `UnmixError` with the server's own code and words.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit

import requests

from unmix.errors import UnmixError
from unmix.job_view import JobView

#: Longest wait for one answer; the check of a long song takes a while.
ANSWER_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that failed."""

    job_id: str
    error_code: str | None
    error: str | None
    finished_at: str | None  # ISO 8601, UTC


class Client:
    """One REST server, named by its URL. Every method raises `UnmixError` when it refuses or does not answer.

    A server that wants a key gets the one in the URL (`http://key@host`), or else `key`. As a context it closes its
    connections when it is left.
    """

    def __init__(self, url: str, *, key: str = "") -> None:
        base, in_url = _without_key(url if "://" in url else f"http://{url}")
        self._api = base.rstrip("/") + "/apiv1"
        self._session = requests.Session()
        if in_url or key:
            self._session.auth = _Bearer(in_url or key)

    def submit(
        self,
        song: Path,
        *,
        model: str | None = None,
        stems: list[str],
        format: str,
        bits: int = 16,
        bitrate_kbps: int | None = None,
        precision: str | None = None,
        overlap: float = 0.25,
        shifts: int = 0,
        mixture_consistency: bool = False,
        start: float = 0.0,
        end: float | None = None,
    ) -> str:
        """Send a song to be separated and return the id of its job; what is None is as the server has it."""
        fields: dict[str, Any] = {"format": format}
        if model is not None:
            fields["model"] = model
        if stems:
            fields["stems"] = ",".join(stems)
        if bits != 16:
            fields["bits"] = str(bits)
        if bitrate_kbps is not None:
            fields["bitrate_kbps"] = str(bitrate_kbps)
        if precision is not None:
            fields["precision"] = precision
        if overlap != 0.25:
            fields["overlap"] = str(overlap)
        if shifts:
            fields["shifts"] = str(shifts)
        if start:
            fields["start"] = f"{start:f}"
        if end is not None:
            fields["end"] = f"{end:f}"
        if mixture_consistency:
            fields["mixture_consistency"] = "true"
        name = os.fsencode(song.name).decode(errors="replace")  # a file may be called anything, a field is UTF-8
        with song.open("rb") as file:
            answer = self._ask("POST", "jobs", data=fields, files={"file": (name, file)})
        return str(_json(answer)["hash"])

    def job(self, job_id: str) -> JobView:
        """Return how a job stands now."""
        answer = self._ask("GET", f"jobs/{job_id}")
        try:
            return JobView.read(_json(answer))
        except ValueError as error:
            raise UnmixError(f"{answer.url} does not tell of a job: is this Track-Unmix?", code="bad_answer") from error

    def watch(self, job_id: str, *, pause_seconds: float = 0.5) -> Iterator[JobView]:
        """Yield how a job stands again and again; the last view is the one in which it is over."""
        while True:
            view = self.job(job_id)
            yield view
            if view.status.is_over:
                return
            time.sleep(pause_seconds)

    def cancel(self, job_id: str) -> None:
        """Cancel a job that is not over."""
        self._ask("POST", f"jobs/{quote(job_id, safe='')}/cancel")

    def retry(self, job_id: str) -> None:
        """Submit a failed or cancelled job again."""
        self._ask("POST", f"jobs/{quote(job_id, safe='')}/retry")

    def remove(self, job_id: str) -> None:
        """Remove a job with its stems, and its song if no other job has it."""
        self._ask("DELETE", f"remove/{quote(job_id, safe='')}")

    def failures(self) -> Iterator[Failure]:
        """Yield the failed jobs, the last failure first."""
        offset = 0
        while failed := _json(self._ask("GET", f"failed?offset={offset}"))["failed"]:
            for fields in failed:
                yield Failure(fields["hash"], fields["error_code"], fields["error"], fields["finished_at"])
            offset += len(failed)

    def download(self, job_id: str, stem: str, target: Path) -> Path:
        """Save a stem as `target` and return that; on failure what was there stays as it was."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        try:
            with self._ask("GET", f"track/{job_id}/{stem}", stream=True) as answer, part.open("wb") as file:
                for chunk in answer.iter_content(1 << 16):
                    file.write(chunk)
            return part.replace(target)
        except requests.RequestException as error:
            raise UnmixError(f"the download of {stem} broke off: {error}", code="rest_unavailable") from error
        finally:
            part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def _ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            answer = self._session.request(method, f"{self._api}/{path}", timeout=ANSWER_SECONDS, **arguments)
        except requests.RequestException as error:
            raise UnmixError(f"no answer from {self._api}: {_innermost(error)}", code="rest_unavailable") from error
        if not answer.ok:
            raise _refusal(answer)
        return answer


class _Bearer(requests.auth.AuthBase):
    """Says the key; what the machine's `.netrc` has for the server does not count then."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _without_key(url: str) -> tuple[str, str]:
    """Return a URL without its user part, so that no message has it, and the key that it was; empty if it was none."""
    parts = urlsplit(url)
    said, separator, host = parts.netloc.rpartition("@")
    if not separator:
        return url, ""
    user, _, password = said.partition(":")
    return parts._replace(netloc=host).geturl(), unquote(user or password)


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        fields = answer.json()
    except ValueError as error:
        raise UnmixError(f"{answer.url} does not answer with JSON: is this Track-Unmix?", code="bad_answer") from error
    if not isinstance(fields, dict):
        raise UnmixError(f"{answer.url} does not answer with an object: is this Track-Unmix?", code="bad_answer")
    return fields


def _refusal(answer: requests.Response) -> UnmixError:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    words = problem.get("detail") or problem.get("error") or f"{answer.url} answers {answer.status_code}"
    return UnmixError(str(words), code=str(problem.get("code") or f"http_{answer.status_code}"))


def _innermost(error: BaseException) -> str:
    """Return the words of the error that started it all; requests wraps a refused connection four times."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)
