"""Runs the command line `unmix` inside the test's own process, so that torch is loaded once for all tests."""

import sys
from pathlib import Path
from unittest.mock import patch

from unmix.cli.__main__ import main


def unmix(*arguments: str | Path) -> int:
    """Run `unmix` with `arguments` and return its exit code; what it prints is for `capsys`."""
    with patch.object(sys, "argv", ["unmix", *map(str, arguments)]):
        try:
            main()
        except SystemExit as exit_:
            return int(exit_.code or 0)
    return 0
