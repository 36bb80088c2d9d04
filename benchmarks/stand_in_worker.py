"""`python -m benchmarks.stand_in_worker HISTORY`: a worker whose engine is the stand-in of the fault injection.

It takes some milliseconds for each song, and notes in the file HISTORY when it began which one.
"""

import sys
from pathlib import Path

from chaos.history import History
from chaos.roles import run_worker


def history(path: Path) -> History:
    """Return the history that such a worker writes at a path."""
    return History(path, "stand-in")


if __name__ == "__main__":
    sys.exit(run_worker(history(Path(sys.argv[1])), []))
