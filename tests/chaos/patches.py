"""Applies a unified diff exactly, as `git apply` does, where there may be no git: each line has to be as the diff says.

A hunk may have moved. It goes where its lines are found nearest to where they were.
"""

import re
from pathlib import Path
from typing import Final

_HUNK: Final = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def patched(patch: str, root: Path) -> dict[Path, str]:
    """Return the new text of each file that the patch changes. Nothing is written.

    Raises:
        ValueError: the lines of a hunk are not in its file, or there is no hunk at all.
        FileNotFoundError: a file is not there.
    """
    files: dict[Path, list[str]] = {}
    file: list[str] = []
    path, lines = "", patch.splitlines()
    while lines:
        line = lines.pop(0)
        if line.startswith("+++ b/"):
            path = line.removeprefix("+++ b/")
            file = files[root / path] = (root / path).read_text().splitlines()
        elif hunk := _HUNK.match(line):
            old, new = _take_hunk(lines, int(hunk[1] or 1), int(hunk[3] or 1))
            place = _nearest(file, old, int(hunk[2]) - 1)
            if place is None:
                raise ValueError(f"{path} has not the lines of {line}")
            file[place : place + len(old)] = new
    if not files:
        raise ValueError("there is nothing in it to be applied")
    return {path: "\n".join(file) + "\n" for path, file in files.items()}


def _take_hunk(lines: list[str], old_count: int, new_count: int) -> tuple[list[str], list[str]]:
    """Remove the lines of a hunk from the head of `lines`, and return them as they were before and after the change."""
    old: list[str] = []
    new: list[str] = []
    while len(old) < old_count or len(new) < new_count:
        line = lines.pop(0)
        if not line.startswith("+"):
            old.append(line[1:])
        if not line.startswith("-"):
            new.append(line[1:])
    return old, new


def _nearest(file: list[str], wanted: list[str], expected: int) -> int | None:
    """Return where in a file `wanted` begins, at the place nearest to the expected one."""
    places = [place for place in range(len(file)) if file[place : place + len(wanted)] == wanted]
    return min(places, key=lambda place: abs(place - expected), default=None)
