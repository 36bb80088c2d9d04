"""`python -m unmix_rest.gate FOLDER`: write the configuration of the gate, for nginx to be started with.

FOLDER is made if it is not there; the gate keeps what it needs in it, answers included.
"""

import sys
from pathlib import Path

from unmix.errors import UnmixError
from unmix.runtime.configured import read_settings
from unmix_rest.gate import render


def main() -> int:
    """Write `nginx.conf` into the folder and say how nginx is started; the exit status is 1 if a setting is wrong."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m unmix_rest.gate FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1]).resolve()
    try:
        text = render(read_settings(), folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "nginx.conf").write_text(text)
    except (UnmixError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"nginx -e stderr -c {folder / 'nginx.conf'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
