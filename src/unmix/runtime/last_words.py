"""How a process that cannot do its work tells whoever started it why, and whether starting it again may help."""

import sys
from typing import Final

from unmix.errors import UnmixError

#: Exit status of a process that would only meet the same error again: what is wrong has to be changed first.
#: (EX_CONFIG of BSD's sysexits.h.)
NEVER: Final = 78


def last_words(error: UnmixError) -> int:
    """Say in one line why the process ends, and return its exit status: 1 if another start may go well."""
    print(f"error: {error.message} ({error.code})", file=sys.stderr, flush=True)
    return 1 if error.retryable else NEVER
