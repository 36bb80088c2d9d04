"""Says what becomes of songs while local mode runs: a line for each that is accepted, done, failed or cancelled.

It reads what REST and the workers log, from where each log ended when it began, and looks the names of songs up in the
store. What it does not understand it passes over: logs are for people.
"""

import ast
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from unmix.errors import UnmixError
from unmix.ledger.ledger import Ledger
from unmix.names import is_job_id
from unmix.runtime.terminal import printable

_FIELD: Final = re.compile(r"""(\w+)=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\S+)""")
#: What is read of a log at once.
_MOST_BYTES: Final = 1 << 20


class Narrator:
    """Follows logs, and says what they tell of songs."""

    def __init__(self, logs: Sequence[Path], ledger: Ledger, say: Callable[[str], None]) -> None:
        self._logs = {log: log.stat().st_size if log.exists() else 0 for log in logs}
        self._ledger = ledger
        self._say = say

    def go_on(self) -> None:
        """Say what has happened since the last time."""
        for log, offset in self._logs.items():
            if not log.exists():
                continue
            with log.open("rb") as file:
                file.seek(offset if offset <= log.stat().st_size else 0)  # it may have been begun anew
                # A line that is still being written is read the next time.
                data = file.read(_MOST_BYTES)
                whole = data[: data.rfind(b"\n") + 1]
                self._logs[log] = file.tell() - len(data) + len(whole)
            for line in whole.decode(errors="replace").splitlines():
                if text := self._told(line):
                    self._say(text)

    def _told(self, line: str) -> str | None:
        """Return what there is to say of a line, if anything."""
        fields = {name: _value(value) for name, value in _FIELD.findall(line)}
        event, job_id = fields.get("event"), fields.get("job_id", "")
        if not is_job_id(job_id):
            return None
        if event == "accepted":
            known = ", known already" if fields.get("joined") == "True" else ""
            return f"accepted   {self._name(job_id)}{known}"
        if event == "job cancelled":
            return f"cancelled  {self._name(job_id)}"
        if event == "job over" and fields.get("status") == "done":
            return f"done       {self._name(job_id)}"
        if event == "job over" and fields.get("status") == "failed":
            return f"failed     {self._name(job_id)}: {self._reason(job_id)} ({fields.get('code')})"
        return None

    def _name(self, job_id: str) -> str:
        """Return what people call the song of a job."""
        try:
            request = self._ledger.request(job_id)
        except UnmixError:
            request = None
        return printable((request and request.name) or f"job {job_id}")

    def _reason(self, job_id: str) -> str:
        try:
            _, outcome = self._ledger.end(job_id)
        except UnmixError:
            outcome = None
        return printable((outcome and outcome.error) or "see the log of the worker")


def _value(text: str) -> str:
    """Return a value as it was before it was logged."""
    if text[0] not in "'\"":
        return text
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text
