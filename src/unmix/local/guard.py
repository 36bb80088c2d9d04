"""Ends orphans: a small process that outlives the supervisor of local mode only to kill what that left behind.

`unmix.local.supervisor` starts it and writes one line to its standard input for each process group that begins (`+PID`)
or ends (`-PID`). When the input ends, the supervisor is gone, however it died (also by `kill -9`), on Linux and macOS
alike. A supervisor that stopped in good order has left nothing to kill.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from unmix.runtime.secrecy import keep_secrets

#: How long to wait for killed processes to vanish, so that whoever waits for the guard finds them gone.
VANISH_SECONDS: Final = 5


def main() -> None:
    """Note which process groups live until the supervisor is gone, then kill those that still do."""
    keep_secrets()  # the supervisor's environment is this one's too
    groups: set[int] = set()
    for line in sys.stdin:
        note = groups.add if line[0] == "+" else groups.discard
        note(int(line[1:]))
    for group in groups:
        # All that runs here is made to survive a crash: a dead supervisor is treated as one.
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + VANISH_SECONDS
    while _any_alive(groups) and time.monotonic() < deadline:
        time.sleep(0.05)


def _any_alive(groups: Iterable[int]) -> bool:
    for group in groups:
        # macOS refuses to signal a group of zombies (EPERM) where Linux accepts it: both are dead or about to be.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, 0)
            return True
    return False


if __name__ == "__main__":
    main()
