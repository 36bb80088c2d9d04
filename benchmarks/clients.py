"""A client at an address of its own, which counts how it was answered: for the benchmarks of hostile clients."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

#: An answer that takes longer is none.
_PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request; status 0 if no answer came."""

    status: int
    told: Any  # its JSON, None if it has none
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it was done what was asked for."""
        return 200 <= self.status < 300


class Client:
    """Asks a service on this machine, each time on a new connection. Safe for threads."""

    def __init__(self, port: int, address: str) -> None:
        self.answers: Counter[str] = Counter()  # by method, status and code of the error
        self._port = port
        self._address = address

    def send(self, song: bytes) -> Answer:
        """Send a song as it is."""
        return self.ask("POST", "/apiv1/jobs", song)

    def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Ask, and wait for the answer."""
        began = time.monotonic()
        status, told, said = 0, None, "no answer"
        address = (self._address, 0)
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_PATIENCE_SECONDS, source_address=address)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read()
            status = response.status
            is_json = "json" in response.getheader("Content-Type", "")
            told = json.loads(text) if is_json and text else None
            said = f"{status}" if status < 300 or told is None else f"{status} {told['code']}"
        except (OSError, HTTPException) as error:
            said = type(error).__name__
        finally:
            connection.close()
        self.answers[f"{method} {said}"] += 1
        return Answer(status, told, time.monotonic() - began)
