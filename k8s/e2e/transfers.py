"""Transfers that take long while k8s/e2e-kind.sh rolls out a new version, and what became of them.

    transfers.py REST RECORD [--seconds 20]

It has a song separated, says that transfers are under way, and until SIGTERM keeps two uploads, two downloads and two
streams of events going, each spread over some seconds, and asks for the queue ten times a second. At the end it prints
how many of each kind were whole, cut (the connection ended before its time), hung (nothing came for half a minute) or
refused; 1 if any was not whole. RECORD is the file of `load.py`: it gets the id of each accepted job. What is asked for
has a connection of its own.
"""

import argparse
import json
import random
import socket
import sys
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from unmix.client import Client
from unmix.runtime.shutdown import Shutdown

SAMPLE_RATE: Final = 8000  # Hz
SONG_SECONDS: Final = 120  # of the song whose stem is downloaded, 21 MB as wav: more than lies in buffers on its way
STEPS: Final = 40  # in which a transfer is made
HANGS_SECONDS: Final = 30
AT_ONCE: Final = 2  # transfers of each kind
ASKS_EACH_SECOND: Final = 10
#: What the system keeps for a client that reads slowly: little, so that the server has to keep the rest.
RECEIVE_BYTES: Final = 64 * 1024

WHOLE, CUT, HUNG, REFUSED = "whole", "cut", "hung", "refused"


class Transfers:
    """What is asked of one server until it is told to stop."""

    def __init__(self, rest: str, record: Path, seconds: float) -> None:
        address = urlsplit(rest)
        self._host, self._port = str(address.hostname), address.port
        self._rest, self._record, self._seconds = rest, record, seconds
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._batch = f"transfers-{random.getrandbits(32):08x}"
        self.ended: Counter[tuple[str, str]] = Counter()

    def run(self, told: Shutdown) -> None:
        """Transfer until `told`, and then until what is under way has ended."""
        stem = self._stem_to_download()
        print("transfers are under way", flush=True)
        kinds: dict[str, Callable[[], str]] = {
            "upload": self._upload,
            "download": lambda: self._download(stem),
            "events": self._watch,
        }
        threads = [
            threading.Thread(target=self._repeat, args=(kind, step))
            for kind, step in kinds.items()
            for _ in range(AT_ONCE)
        ]
        for thread in threads:
            thread.start()
        while not told.wait(1 / ASKS_EACH_SECOND):
            thread = threading.Thread(target=self._try, args=("request", self._ask))
            threads = [each for each in threads if each.is_alive()] + [thread]
            thread.start()
        self._over.set()
        for thread in threads:
            thread.join()

    def _repeat(self, kind: str, step: Callable[[], str]) -> None:
        while not self._over.is_set():
            if self._try(kind, step) != WHOLE:
                self._over.wait(1)

    def _try(self, kind: str, step: Callable[[], str]) -> str:
        try:
            end = step()
        except TimeoutError:
            end = HUNG
        except ConnectionRefusedError:
            end = REFUSED
        except (OSError, HTTPException):
            end = CUT
        with self._lock:
            self.ended[kind, end] += 1
        if end != WHOLE:
            print(f"{kind} {end} at {time.strftime('%X')}", file=sys.stderr, flush=True)
        return end

    def _stem_to_download(self) -> str:
        with Client(self._rest) as client:
            song = self._record.with_suffix(".wav")
            song.write_bytes(noise(SONG_SECONDS))
            job = client.submit(song, stems=["vocals"], format="wav", batch=self._batch)
            client.wait(job)
        return f"/apiv1/track/{job}/vocals.wav"

    def _connect(self) -> HTTPConnection:
        connection = HTTPConnection(self._host, self._port, timeout=HANGS_SECONDS)
        connection.connect()
        return connection

    def _upload(self) -> str:
        song = noise(10)
        with closing(self._connect()) as connection:
            connection.putrequest("POST", f"/apiv1/jobs?stems=vocals&format=mp3&batch={self._batch}")
            connection.putheader("Content-Type", "application/octet-stream")
            connection.putheader("Content-Length", str(len(song)))
            connection.endheaders()
            size = -(-len(song) // STEPS)
            for start in range(0, len(song), size):
                connection.send(song[start : start + size])
                time.sleep(self._seconds / STEPS)
            answer = connection.getresponse()
            if (said := _judge(answer)) != WHOLE:
                return said
            job = json.loads(answer.read())["hash"]
        with self._lock, self._record.open("a") as lines:
            lines.write(f"{job}\n")
        return WHOLE

    def _download(self, path: str) -> str:
        with closing(HTTPConnection(self._host, self._port, timeout=HANGS_SECONDS)) as connection:
            peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            peer.settimeout(HANGS_SECONDS)
            connection.sock = peer
            peer.connect((self._host, self._port))
            connection.request("GET", path)
            answer = connection.getresponse()
            if (said := _judge(answer)) != WHOLE:
                return said
            left = size = int(answer.headers["Content-Length"])
            while left:
                # A connection that ends before its time is an error of its own only where all is read at once.
                piece = answer.read(min(left, -(-size // STEPS)))
                if not piece:
                    return CUT
                left -= len(piece)
                time.sleep(self._seconds / STEPS)
        return WHOLE

    def _watch(self) -> str:
        """Listen to a batch, which has no end, for a while; a server that goes may end it, but in good order."""
        with closing(self._connect()) as connection:
            connection.request("GET", f"/apiv1/events?batch={self._batch}")
            answer = connection.getresponse()
            if (said := _judge(answer)) != WHOLE:
                return said
            until = time.monotonic() + self._seconds
            while time.monotonic() < until:
                line = answer.readline()
                if not line:
                    return WHOLE
                if not line.endswith(b"\n"):
                    return CUT
        return WHOLE

    def _ask(self) -> str:
        with closing(self._connect()) as connection:
            connection.request("GET", "/apiv1/queue")
            answer = connection.getresponse()
            answer.read()
            return _judge(answer)


def _judge(answer: HTTPResponse) -> str:
    return WHOLE if answer.status < 300 else REFUSED


def noise(seconds: int) -> bytes:
    """Return a song that nobody has sent before, as wav: a second of noise again and again."""
    file = BytesIO()
    with wave.open(file, "wb") as song:
        song.setnchannels(1)
        song.setsampwidth(1)
        song.setframerate(SAMPLE_RATE)
        song.writeframes(random.randbytes(SAMPLE_RATE) * seconds)
    return file.getvalue()


def main() -> int:
    """Transfer until SIGTERM and return 0 if all was whole."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rest", help="URL of REST")
    parser.add_argument("record", type=Path, help="file of the ids of accepted jobs")
    parser.add_argument("--seconds", type=float, default=20, help="how long a transfer takes")
    arguments = parser.parse_args()
    told = Shutdown()
    told.listen()
    transfers = Transfers(arguments.rest, arguments.record, arguments.seconds)
    transfers.run(told)
    for kind in ("upload", "download", "events", "request"):
        ends = {end: transfers.ended[kind, end] for end in (WHOLE, CUT, HUNG, REFUSED)}
        print(f"{kind}: {', '.join(f'{count} {end}' for end, count in ends.items())}")
    missing = [kind for kind in ("upload", "download", "events") if not transfers.ended[kind, WHOLE]]
    return 1 if missing or any(end != WHOLE for _, end in transfers.ended) else 0


if __name__ == "__main__":
    sys.exit(main())
