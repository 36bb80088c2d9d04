"""Checks the device before the service starts: its workers would only say one after the other that there is none.

In a process of its own (`python -m unmix.local.devices DEVICE`), because it needs torch and its callers do not.
"""

import subprocess
import sys

from unmix.errors import EngineError


def check_device(name: str) -> None:
    """Refuse a device that is not there.

    Raises:
        EngineError: `device_unavailable`, with what torch misses.
    """
    if name == "cpu":
        return
    check = subprocess.run([sys.executable, "-m", "unmix.local.devices", name], capture_output=True, text=True)
    if check.returncode != 0:
        raise EngineError((check.stdout or check.stderr).strip(), code="device_unavailable")


def main() -> None:
    """Say why the device is not there, if it is not."""
    from unmix.engine import devices

    try:
        devices.check_device(sys.argv[1])
    except EngineError as error:
        print(error.message)  # apart from what torch warns of
        sys.exit(1)


if __name__ == "__main__":
    main()
