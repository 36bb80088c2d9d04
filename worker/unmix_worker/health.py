"""The worker's sign of life: a file that it touches while it waits for work and while it works."""

from pathlib import Path


class Heartbeat:
    """Touches a file at every beat; without a path it does nothing.

    The file appears when the model is loaded, so that its existence means ready and its age means alive.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def beat(self) -> None:
        """Say that the worker is alive."""
        if self._path is not None:
            self._path.touch()
