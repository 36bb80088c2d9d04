"""The routes of the REST API as methods. How a server is asked, and waited for, is `connection`'s."""

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

import requests

from unmix.client.connection import Connection, bad_answer, json_of
from unmix.client.patience import Patience
from unmix.client.shapes import Failure, ModelView, Waiting
from unmix.errors import NotFoundError, UnmixError, UnreachableError
from unmix.job_view import JobSummary, JobView, View

#: How long an answer to `wait` is held while nothing ends, in seconds.
HELD_SECONDS: Final = 20

_CHUNK_BYTES: Final = 1 << 16
#: What an `ETag` has in it that tells what a stem is.
_SHA256: Final = re.compile(r'"([0-9a-f]{64})"')

Told = TypeVar("Told", bound=View)


class Client:
    """One server, named by its URL. Every method raises `UnmixError` when it refuses or stays away.

    A server that wants a key gets the one in the URL (`http://key@host`), or else `key`. While the service restarts, or
    wants to be left alone for a moment, methods wait as `patience` says. As a context it closes its connections when
    it is left. One thread at a time may use it.
    """

    def __init__(self, url: str, *, key: str = "", patience: Patience | None = None) -> None:
        self._connection = Connection(url, key=key, patience=patience or Patience())

    @property
    def url(self) -> str:
        """Where the server is, without a key."""
        return self._connection.base

    def submit(
        self,
        song: Path,
        *,
        model: str | None = None,
        stems: Sequence[str] = (),
        format: str | None = None,
        bits: int | None = None,
        song_rate: bool | None = None,
        bitrate_kbps: int | None = None,
        precision: str | None = None,
        overlap: float | None = None,
        shifts: int | None = None,
        mixture_consistency: bool | None = None,
        start: float | None = None,
        end: float | None = None,
        name: str | None = None,
        labels: Sequence[str] = (),
        batch: str | None = None,
    ) -> str:
        """Send a song to be separated and return the id of its job; what is None is as the server has it.

        No stems are all sources of the model; `name` is that of the file unless it is given. The song is read as it
        goes out. The same song with the same options is the same job, so sending it again costs nothing.

        Raises:
            OSError: the song cannot be read.
        """
        fields = {
            "model": model,
            "stems": ",".join(stems),
            "format": format,
            "bits": bits,
            "song_rate": song_rate,
            "bitrate_kbps": bitrate_kbps,
            "precision": precision,
            "overlap": overlap,
            "shifts": shifts,
            "mixture_consistency": mixture_consistency,
            "start": start,
            "end": end,
            "name": name or os.fsencode(song.name).decode(errors="replace"),  # a file may be called anything
            "labels": ",".join(labels),
            "batch": batch,
        }
        answer = self._ask(
            "POST",
            "jobs",
            song=song,
            params={name: _spelled(value) for name, value in fields.items() if value not in (None, "")},
            headers={"Content-Type": "application/octet-stream"},
        )
        return _read(JobView, answer).hash

    def job(self, job_id: str, *, wait_seconds: float = 0) -> JobView:
        """Return how a job stands now, or when it is over or `wait_seconds` have passed."""
        query = {"wait": f"{wait_seconds:g}"} if wait_seconds else {}
        return _read(JobView, self._ask("GET", f"jobs/{_id(job_id)}", params=query))

    def watch(self, job_id: str, *, pause_seconds: float = 0.5) -> Iterator[JobView]:
        """Yield how a job stands again and again; the last view is the one in which it is over."""
        while True:
            view = self.job(job_id)
            yield view
            if view.status.is_over:
                return
            time.sleep(pause_seconds)

    def wait(self, job_id: str) -> JobView:
        """Return how a job stands when it is over, however long that takes."""
        while not (view := self.job(job_id, wait_seconds=HELD_SECONDS)).status.is_over:
            time.sleep(0.1)  # a server that has no room for those who wait answers at once
        return view

    def jobs(
        self, *, status: str | None = None, label: str | None = None, batch: str | None = None, name: str | None = None
    ) -> Iterator[JobSummary]:
        """Yield the jobs that were submitted, the newest first; those that have what is given."""
        asked = {"status": status, "label": label, "batch": batch, "name": name}
        query: dict[str, str] | None = {field: value for field, value in asked.items() if value is not None}
        while query is not None:
            page = json_of(answer := self._ask("GET", "jobs", params=query))
            for fields in _listed(page, "jobs", answer):
                yield _value(JobSummary, fields, answer)
            query = dict(parse_qsl(urlsplit(page["next"]).query)) if page.get("next") else None

    def queue(self) -> Waiting:
        """Return what waits, the next one first, and what runs."""
        return _read(Waiting, self._ask("GET", "queue"))

    def models(self) -> list[ModelView]:
        """Return the models that may be named, the default one first."""
        answer = self._ask("GET", "models")
        return [_value(ModelView, fields, answer) for fields in _listed(json_of(answer), "models", answer)]

    def version(self) -> str:
        """Return the version of the server. Who is away is not waited for here."""
        answer = self._connection.ask_once("GET", "version")
        return str(json_of(answer).get("version"))

    def fault(self) -> str | None:
        """Return why the service cannot do its work; None if it can, or tells only its operator.

        Who is away is not waited for here.
        """
        try:
            self._connection.ask_once("GET", "readyz")
        except UnreachableError:
            raise
        except NotFoundError:
            return None
        except UnmixError as error:
            return error.message
        return None

    def cancel(self, job_id: str) -> None:
        """Cancel a job that is not over."""
        self._ask("POST", f"jobs/{_id(job_id)}/cancel")

    def retry(self, job_id: str) -> None:
        """Submit a failed or cancelled job again."""
        self._ask("POST", f"jobs/{_id(job_id)}/retry")

    def remove(self, job_id: str) -> None:
        """Remove a job with its stems, and its song if no other job has it."""
        self._ask("DELETE", f"remove/{_id(job_id)}")

    def failures(self) -> Iterator[Failure]:
        """Yield the failed jobs, the last failure first."""
        offset = 0
        while True:
            answer = self._ask("GET", "failed", params={"offset": offset})
            failed = _listed(json_of(answer), "failed", answer)
            for fields in failed:
                yield _value(Failure, fields, answer)
            if not failed:
                return
            offset += len(failed)

    def download(self, job_id: str, stem: str, target: Path) -> Path:
        """Save a stem as `target` and return that; on failure what was there stays as it was.

        What breaks off goes on where it was. The bytes are those of the SHA-256 that the server tells, or they are
        fetched once more.

        Raises:
            UnmixError: they came damaged twice (`damaged_download`).
            OSError: the file cannot be written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{secrets.token_hex(8)}.part")
        path = f"apiv1/track/{_id(job_id)}/{quote(stem, safe='')}"
        try:
            with part.open("wb") as file:
                if not (self._fetch(path, file) or self._fetch(path, file)):
                    text = f"{stem} came damaged twice: something between here and the server changes it"
                    raise UnmixError(text, code="damaged_download")
            return part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return self._connection.ask(method, f"apiv1/{path}", **arguments)

    def _fetch(self, path: str, file: BinaryIO) -> bool:
        """Write what lies at `path` to a file; False if it is not what the server says of it."""
        tries, tag = self._connection.tries(), ""
        while True:
            had_bytes = file.tell()
            # Where another file has taken its place all of it comes, from its beginning.
            headers = {"Range": f"bytes={had_bytes}-", "If-Range": tag} if had_bytes and tag else {}
            try:
                with self._connection.ask_once("GET", path, headers=headers, stream=True) as answer:
                    if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
                        file.seek(0)
                        file.truncate()
                    tag = answer.headers.get("ETag", "")
                    with self._connection.breaking_off():
                        for chunk in answer.iter_content(_CHUNK_BYTES):
                            file.write(chunk)
                break
            except UnmixError as error:
                if file.tell() > had_bytes:
                    tries = self._connection.tries()  # it gets on
                self._connection.wait_after(error, tries)
        file.flush()
        told = _SHA256.search(tag)
        return told is None or told[1] == _sha256(Path(file.name))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _id(job_id: str) -> str:
    return quote(job_id, safe="")


def _spelled(value: object) -> str:
    """Return a value as a URL has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, float) else str(value)


def _read(kind: type[Told], answer: requests.Response) -> Told:
    return _value(kind, json_of(answer), answer)


def _listed(fields: dict[str, Any], name: str, answer: requests.Response) -> list[Any]:
    values = fields.get(name)
    if not isinstance(values, list):
        raise bad_answer(answer)
    return values


def _value(kind: type[Told], fields: Any, answer: requests.Response) -> Told:
    """Read what is told.

    Raises:
        UnmixError: it is something else (`bad_answer`).
    """
    try:
        return kind.read(fields)
    except ValueError as error:
        raise bad_answer(answer) from error
