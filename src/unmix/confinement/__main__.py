"""`python -m unmix.confinement auto`: shuts itself in, and prints what holds it, one mechanism a line."""

import sys
from typing import cast

from unmix.confinement import Sandbox, confine
from unmix.errors import UnmixError

if __name__ == "__main__":
    try:
        print(*confine(cast(Sandbox, sys.argv[1])), sep="\n")
    except UnmixError:
        print()  # what is required is missing, and who asks says so
