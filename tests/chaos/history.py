"""What happened in a run, as lines of JSON in one file outside Redis and the store.

Every process appends to it as things happen, nothing is ever changed, and a process that is killed in the middle of a
line spoils that line alone. `chaos.checker` judges by it.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: One line: `at` (monotonic seconds, the same clock in all processes), `run`, `event`, and what belongs to it.
Event = dict[str, Any]


class History:
    """The part of the file at `path` that belongs to one `run`. It can be handed to other processes."""

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run
        self._file: int | None = None
        self._read_to = path.stat().st_size if path.exists() else 0

    def note(self, event: str, **fields: Any) -> None:
        """Append a line. What is noted happened before; what is noted first may still not happen."""
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        line = json.dumps({"at": round(time.monotonic(), 4), "run": self.run, "event": event, **fields})
        # One write, so that lines of many processes do not mix; a line of its own, whatever was torn off before it.
        os.write(self._file, f"\n{line}\n".encode())

    def new_events(self) -> list[Event]:
        """Return what was appended to this run since the last call, or since this object was made."""
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._read_to += end
        return list(_parse(data[:end], self.run))

    def events(self) -> list[Event]:
        """Return this run from its beginning."""
        return list(_parse(self.path.read_bytes(), self.run))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def _parse(data: bytes, run: str) -> Iterator[Event]:
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # empty, or torn by a kill
        if event["run"] == run:
            yield event
