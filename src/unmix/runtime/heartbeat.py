"""A process's sign of life: a file that it touches, by whose age a liveness probe tells whether it hangs."""

from pathlib import Path


class Heartbeat:
    """Touches a file at every beat; without a path it does nothing.

    A beat belongs where the process has just come round or made progress, and never into a thread of its own, which
    would go on when the rest hangs. That Redis or the store is away is no reason to leave one out: a new process would
    not find them either.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def beat(self) -> None:
        """Say that the process is alive."""
        if self._path is not None:
            self._path.touch()

    def end(self) -> None:
        """Say that the process is not alive, or not yet: what a probe would still take for young goes away."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
