"""What the benchmarks keep from one run to the next, among the temporary files: it may be removed at any time."""

import tempfile
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(tempfile.gettempdir()) / "unmix-benchmarks"
SONGS: Final = _FOLDER / "songs"
#: Models as the engine's backends convert them.
CONVERTED: Final = _FOLDER / "converted"
