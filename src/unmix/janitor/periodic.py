"""Work that comes round again and again in a thread of its own, and when it counts as hanging."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import structlog

from unmix.errors import QueueError, StoreError

log = structlog.get_logger()

#: A delivery, or what is done about one song, takes seconds; what takes longer than this hangs.
HANGS_AFTER_SECONDS: Final = 900.0


class Periodic:
    """Does `work` at once and then after each pause until `stop`, and logs what came of it if anything did.

    `work` gets a function to call at every step, as a sign of progress: a long walk is not one that hangs. It may end
    with the process at any step.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Callable[[], None]], Any],
        *,
        pause_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._name = name
        self._work = work
        self._pause_seconds = pause_seconds
        self._stop = stop
        self._busy_since: float | None = None  # None in the pauses
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def check(self) -> None:
        """Raise `RuntimeError` if the thread has broken, which its traceback tells, or hangs."""
        if not self._thread.is_alive() and not self._stop.is_set():
            raise RuntimeError(f"the {self._name} has ended")
        if hangs(self._busy_since):
            raise RuntimeError(f"the {self._name} hangs")

    def _run(self) -> None:
        while True:
            self._step()
            try:
                done = asdict(self._work(self._step))
                if any(done.values()):
                    log.info(f"{self._name} done", **done)
            except (QueueError, StoreError) as error:
                log.warning(f"{self._name} broke off", code=error.code, error=error.message)
            self._busy_since = None
            if self._stop.wait(self._pause_seconds):
                return

    def _step(self) -> None:
        self._busy_since = time.monotonic()


def hangs(busy_since: float | None) -> bool:
    """Tell whether what began at `busy_since` (monotonic seconds, None: nothing is under way) has hung since."""
    return busy_since is not None and time.monotonic() - busy_since > HANGS_AFTER_SECONDS
