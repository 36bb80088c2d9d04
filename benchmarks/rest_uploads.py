"""How fast songs come in, several at once, each way that REST takes them: for `benchmarks.rest`.

Against the same bytes put into the same store by `put_file`, also several at once, in the same round. An upload that
makes a job includes the decode check, which is therefore timed alone too.
"""

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from benchmarks import past
from benchmarks.filled_s3 import filled_s3
from benchmarks.processes import Service
from benchmarks.rest_views import s3_settings
from benchmarks.songs import noise
from unmix import names
from unmix.audio.probe import Probe
from unmix.audio.samples import SAMPLE_RATE
from unmix.settings import Settings
from unmix.store.protocol import ObjectStore

_WAV_HEADER_BYTES: Final = 44
_NUMBER_BYTES: Final = 8
_BYTES_PER_SECOND: Final = 4 * SAMPLE_RATE
_BOUNDARY: Final = "benchmark"

_Body = Sequence[bytes | memoryview]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Song:
    """A WAV of noise: all have the same samples but for the first two, which are the song's number."""

    def __init__(self, noise: bytes, number: int) -> None:
        self.size_bytes = len(noise)
        begin = noise[:_WAV_HEADER_BYTES] + number.to_bytes(_NUMBER_BYTES, "little")
        self.whole: _Body = (begin, memoryview(noise)[len(begin) :])

    def piece(self, start: int, end: int) -> _Body:
        """Return the bytes from `start` up to `end`, without copying most of them."""
        begin, rest = self.whole
        return begin[start:end], rest[max(0, start - len(begin)) : max(0, end - len(begin))]


class Client:
    """Sends songs to one REST, and remembers of what there are jobs."""

    def __init__(self, port: int) -> None:
        self.job_ids: list[str] = []
        self._address = f"127.0.0.1:{port}"

    def form(self, song: Song) -> None:
        """Send a song as a form."""
        begin = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="song.wav"\r\n\r\n'.encode()
        end = f"\r\n--{_BOUNDARY}--\r\n".encode()
        self._job(f"multipart/form-data; boundary={_BOUNDARY}", [begin, *song.whole, end])

    def raw(self, song: Song) -> None:
        """Send a song as it is."""
        self._job("audio/wav", song.whole)

    def ticket(self, song: Song) -> str:
        """Ask for a ticket, send the song by it, in pieces or straight into the store, and return the upload's id."""
        ticket = _ask(self._address, "POST", "/apiv1/uploads", [json.dumps({"size_bytes": song.size_bytes}).encode()])
        url = urlsplit(ticket["url"])
        path = f"{url.path}?{url.query}" if url.query else url.path
        if not ticket["resumable"]:
            _ask(url.netloc, ticket["method"], path, song.whole, ticket["headers"])
            return str(ticket["upload_id"])
        for start in range(0, song.size_bytes, ticket["piece_bytes"]):
            end = min(start + ticket["piece_bytes"], song.size_bytes)
            said = {"Content-Range": f"bytes {start}-{end - 1}/{song.size_bytes}"}
            _ask(self._address, "PUT", path, song.piece(start, end), said)
        return str(ticket["upload_id"])

    def job_of(self, upload_id: str) -> None:
        """Make a job of an upload."""
        self._job("application/json", [json.dumps({"upload": upload_id}).encode()])

    def remove_all(self) -> None:
        """Remove all jobs, and with them their songs."""
        for job_id in self.job_ids:
            _ask(self._address, "DELETE", f"/apiv1/jobs/{job_id}")
        self.job_ids.clear()

    def _job(self, type: str, body: _Body) -> None:
        self.job_ids.append(_ask(self._address, "POST", "/apiv1/jobs", body, {"Content-Type": type})["hash"])


def on_files(folder: Path, *, songs: int, size_bytes: int, rounds: int) -> list[dict[str, float]]:
    """Return of each round how many seconds each way took over so many songs at once, on a file store on the disk."""
    store = past.file_store(folder / "store")
    with Service(folder, {"UNMIX_STORE_URL": f"file://{store.root}"}) as service, service.rest_process() as (port, _):
        client, measured, made = Client(port), [], Maker(songs, size_bytes)
        for number in range(rounds):
            print(f"file store: {songs} songs at once, round {number + 1}", flush=True)
            with _files(made.songs(), folder) as paths:
                seconds = {"directly": _directly(store, paths), "check": _checked(paths)}
            for name, send in {"form": client.form, "raw": client.raw}.items():
                seconds[name] = at_once(send, made.songs())[0]
                client.remove_all()
            seconds["ticket"], uploads = at_once(client.ticket, made.songs())
            seconds["job of it"] = at_once(client.job_of, uploads)[0]
            client.remove_all()
            measured.append(seconds)
    return measured


def on_s3(folder: Path, *, songs: int, size_bytes: int, rounds: int) -> list[dict[str, float]]:
    """Return the same of songs that go straight into an S3 server, by a ticket and by `put_file`."""
    with (
        filled_s3(folder, 1) as (endpoint, store),
        Service(folder, s3_settings(endpoint)) as service,
        service.rest_process() as (port, _),
    ):
        client, measured, made = Client(port), [], Maker(songs, size_bytes)
        for number in range(rounds):
            print(f"S3 server: {songs} songs at once, round {number + 1}", flush=True)
            with _files(made.songs(), folder) as paths:
                seconds = {"directly": _directly(store, paths)}
            seconds["ticket"], uploads = at_once(client.ticket, made.songs())
            seconds["job of it"] = at_once(client.job_of, uploads)[0]
            client.remove_all()
            measured.append(seconds)
    return measured


@contextmanager
def _files(songs: Sequence[Song], folder: Path) -> Iterator[list[Path]]:
    """Write songs to `folder`, for as long as the block runs."""
    paths = [folder / f"song-{number}.wav" for number in range(len(songs))]
    for path, song in zip(paths, songs, strict=True):
        path.write_bytes(b"".join(song.whole))
    yield paths
    for path in paths:
        path.unlink()


def _directly(store: ObjectStore, paths: Sequence[Path]) -> float:
    """Return how many seconds it takes to put songs into the store without REST."""
    songs = [(names.song_object(names.hash_song(path.name.encode())), path) for path in paths]
    seconds, _ = at_once(lambda song: store.put_file(*song), songs)
    for name, _ in songs:
        store.remove(name)
    return seconds


def _checked(paths: Sequence[Path]) -> float:
    """Return how many seconds the decode check takes over songs, as REST makes it."""
    settings = Settings()
    probe = Probe(
        min_seconds=settings.min_song_seconds,
        max_seconds=settings.max_song_seconds,
        limit_seconds=settings.probe_seconds,
        cpu_seconds=settings.probe_cpu_seconds,
        memory_mb=settings.probe_memory_mb,
    )
    return at_once(probe.check, paths)[0]


class Maker:
    """Makes songs, never the same twice: REST does not put a song that it has."""

    def __init__(self, at_once: int, size_bytes: int) -> None:
        self._at_once = at_once
        self._noise = noise(0, size_bytes / _BYTES_PER_SECOND)
        self._made = 0

    def songs(self) -> list[Song]:
        """Return as many as are sent at once."""
        first, self._made = self._made, self._made + self._at_once
        return [Song(self._noise, number) for number in range(first, self._made)]


def at_once(act: Callable[[_Item], _Result], items: Sequence[_Item]) -> tuple[float, list[_Result]]:
    """Do something with all items at once, and return how many seconds that took, and what came of each."""
    os.sync()  # nobody shall pay for what others have left to be written
    with ThreadPoolExecutor(len(items)) as pool:
        started = time.perf_counter()
        results = list(pool.map(act, items))
        return round(time.perf_counter() - started, 3), results


def _ask(
    address: str,
    method: str,
    path: str,
    body: _Body = (),
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Send a request whose body is made of pieces, and return the JSON of the answer if it has any."""
    connection = http.client.HTTPConnection(address, timeout=300)
    try:
        connection.putrequest(method, path)
        for name, value in {**(headers or {}), "Content-Length": str(sum(map(len, body)))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        for piece in body:
            connection.send(piece)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} was answered {answer.status}: {text[:500]!r}")
        return json.loads(text) if text else None
    finally:
        connection.close()
