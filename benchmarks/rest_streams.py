"""Many who watch, some who send slowly, and what the others notice of it: for `benchmarks.rest`.

`Streams` is the client of many event streams in one thread: it only notes when which bytes came, and reads them later.
"""

import json
import re
import selectors
import socket
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, Self

import numpy as np

from benchmarks import past, present
from benchmarks.load import at_rate, of_rounds
from benchmarks.measure import TreeMemory, peak_rss_mb
from benchmarks.processes import Service, wait_until

#: Clients that send a song over a poor line, and how many bytes a second each sends.
SENDING: Final = 8
SENT_PER_SECOND: Final = 125_000
PER_SECOND: Final = 20
#: A worker renews its lease so often unless it is told otherwise, and says how far it is.
RENEW_SECONDS: Final = 5.0
BATCH: Final = "present"

_SEND_PAUSE_SECONDS: Final = 0.1
#: Longer than anybody should wait for an event.
_SETTLE_SECONDS: Final = 3.0
#: A song that is never there whole.
_SONG_BYTES: Final = 50_000_000
_DATA: Final = re.compile(rb"data: (\{.*\})\n")


class Streams:
    """Watches many event streams of one REST while it is entered."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._connections: list[socket.socket] = []
        self._received: list[list[tuple[float, bytes]]] = []  # of each stream: when, and what
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._receive)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()
        self._selector.close()

    def open(self, path: str) -> int:
        """Open one more stream, and return its number."""
        connection = socket.create_connection(("127.0.0.1", self._port), 60)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self._connections.append(connection)
        self._received.append([])
        self._selector.register(connection, selectors.EVENT_READ, self._received[-1])
        return len(self._received) - 1

    def events(self, number: int) -> list[tuple[float, dict[str, Any]]]:
        """Return what a stream has told so far: when the last byte of each event was there, and its data.

        Raises:
            RuntimeError: it was answered otherwise.
        """
        received = list(self._received[number])
        text = b"".join(chunk for _, chunk in received)
        if text and not text.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"a stream was answered {text[:200]!r}")
        ends = list(accumulate(len(chunk) for _, chunk in received))
        return [(received[bisect_left(ends, match.end())][0], json.loads(match[1])) for match in _DATA.finditer(text)]

    def _receive(self) -> None:
        while not self._left.is_set():
            for key, _ in self._selector.select(0.1):
                assert isinstance(key.fileobj, socket.socket)
                try:
                    chunk = key.fileobj.recv(65536)
                except ConnectionError:
                    chunk = b""
                key.data.append((monotonic(), chunk))
                if not chunk:
                    self._selector.unregister(key.fileobj)


def measured(folder: Path, *, streams: int, running: int, seconds: float) -> dict[str, Any]:
    """Return what others wait for, what REST needs and when watchers know, with so many streams and slow uploads."""
    store = past.file_store(folder / "store")
    cancels = round(PER_SECOND * seconds)
    with (
        Service(folder, {"UNMIX_STORE_URL": f"file://{store.root}"}) as service,
        service.queue() as queue,
        service.rest_process() as (port, pid),
    ):
        run = present.accept(store, queue, range(running), batch=BATCH)
        claims = present.begin(queue, running)
        cancelled = present.accept(store, queue, range(running, running + cancels), batch="to be cancelled")
        with Streams(port) as watched, TreeMemory(pid) as memory:
            # Every fourth watches the whole batch.
            of = [None if number % 4 == 3 else run[number % running] for number in range(streams)]
            for job_id in of:
                watched.open(f"/apiv1/jobs/{job_id}/events" if job_id else f"/apiv1/events?batch={BATCH}")
            wait_until(lambda: all(watched.events(number) for number in range(streams)), "all streams have begun")
            with present.Workers(queue, claims, renew_seconds=RENEW_SECONDS) as workers, _sending(port):
                print(f"{streams} streams, {SENDING} slow uploads", flush=True)
                status = [f"/apiv1/jobs/{run[number % running]}" for number in range(cancels)]
                cancel = [f"/apiv1/jobs/{job_id}/cancel" for job_id in cancelled]
                asked = {
                    "healthz": at_rate(port, ["/healthz"] * cancels, per_second=PER_SECOND),
                    "status": at_rate(port, status, per_second=PER_SECOND),
                    "cancel": at_rate(port, cancel, per_second=PER_SECOND, method="POST"),
                }
            sleep(_SETTLE_SECONDS)
            peak_rss = peak_rss_mb(pid)
            told = [delays(workers.said, watched.events(number), job_id) for number, job_id in enumerate(of)]
    delays_s = [delay for each in told for delay in each if delay is not None]
    return {
        "streams": streams,
        "running": running,
        "sending": SENDING,
        "per_second": PER_SECOND,
        "asked": {request: of_rounds([times]) for request, times in asked.items()},
        "peak_pss_mb": round(memory.peak_pss / 1e6, 1),
        "peak_rss_mb": round(peak_rss, 1),
        "said": len(workers.said),
        "missed": sum(delay is None for each in told for delay in each),
        "told": len(delays_s),
        "told_s": {str(share): round(float(np.percentile(delays_s, share)), 3) for share in (50, 95, 99, 100)},
    }


def delays(
    said: Sequence[tuple[str, float, float]], events: Sequence[tuple[float, dict[str, Any]]], job_id: str | None
) -> list[float | None]:
    """Return how long it took until a stream told of each progress or of a later one; None where it never did.

    `said` are job, progress and moment; only what is said of `job_id` counts if there is one.
    """
    known: dict[str, tuple[list[float], list[float]]] = {}
    for at, data in events:
        progresses, moments = known.setdefault(data["hash"], ([], []))
        progresses.append(data["progress"])
        moments.append(at)
    found: list[float | None] = []
    for each, progress, at in said:
        if job_id in (None, each):
            progresses, moments = known.get(each, ([], []))
            place = bisect_left(progresses, progress)
            found.append(moments[place] - at if place < len(moments) else None)
    return found


@contextmanager
def _sending(port: int) -> Iterator[None]:
    """Send songs slowly while the block runs; none of them comes to its end.

    Raises:
        OSError: REST has closed one of the connections.
    """
    piece = bytes(round(SENT_PER_SECOND * _SEND_PAUSE_SECONDS))
    head = f"POST /apiv1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: {_SONG_BYTES}"
    left = threading.Event()
    failures: list[OSError] = []

    def send() -> None:
        try:
            while not left.wait(_SEND_PAUSE_SECONDS):
                for connection in connections:
                    connection.sendall(piece)
        except OSError as error:  # for the caller, who would not see it in a thread
            failures.append(error)

    connections = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(SENDING)]
    for connection in connections:
        connection.sendall(f"{head}\r\n\r\n".encode())
    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()
        for connection in connections:
            connection.close()
    if failures:
        raise failures[0]
