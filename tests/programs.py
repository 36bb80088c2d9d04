"""Programs of the machine that some tests drive, and what becomes of these tests where they are missing."""

import os
import shutil
from typing import Final

import pytest

#: With this a machine has to have them all, as ours in CI; elsewhere such tests are skipped, and say so.
NEED_ALL: Final = "TESTS_NEED_PROGRAMS"
#: Debian has some where only root looks.
_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))


def program(*names: str, package: str) -> str:
    """Return where the first of the named programs is that is there, or end the test as this machine should."""
    path = next(filter(None, (shutil.which(name, path=_PATH) for name in names)), None)
    if path is None:
        end = pytest.fail if os.environ.get(NEED_ALL) else pytest.skip
        end(f"there is no {names[0]}: apt-get install {package}")
    return path
