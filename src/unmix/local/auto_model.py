"""Decides what `--model auto` means on this machine: htdemucs if it can be had, else the demo model.

Only `unmix local` and the demo know `auto`; a service never chooses a model by itself. The decision is taken in a
process of its own (`python -m unmix.local.auto_model`), because it needs torch and its callers do not.
"""

import subprocess
import sys
from typing import Final

from unmix.errors import ModelUnavailableError
from unmix.names import DEMO_LABEL, DEMO_MODEL
from unmix.settings import Settings

PREFERRED: Final = "htdemucs"
#: How long to try to reach the home of the weights.
REACH_SECONDS: Final = 3.0


def resolve_model(name: str) -> tuple[str, str | None]:
    """Return the model that `name` stands for, and what the user should know about it, if anything.

    Raises:
        ModelUnavailableError: `auto` could not be decided.
    """
    if name != "auto":
        return name, DEMO_LABEL if name == DEMO_MODEL else None
    decision = subprocess.run([sys.executable, "-m", "unmix.local.auto_model"], capture_output=True, text=True)
    if decision.returncode != 0:
        raise ModelUnavailableError(f"cannot tell which model can be had here:\n{decision.stderr.strip()}")
    if decision.stdout.strip() == PREFERRED:
        return PREFERRED, None
    return DEMO_MODEL, f"{PREFERRED} is neither cached nor reachable, so this is the {DEMO_LABEL}"


def main() -> None:
    """Print the model that `auto` stands for."""
    from unmix.engine.models import available_offline
    from unmix.engine.pretrained import reachable

    model_dir = Settings().model_dir
    at_hand = available_offline(PREFERRED, model_dir=model_dir) or reachable(PREFERRED, seconds=REACH_SECONDS)
    print(PREFERRED if at_hand else DEMO_MODEL)


if __name__ == "__main__":
    main()
