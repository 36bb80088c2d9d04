"""Removes one mechanism of the product at a time and sees that tests turn red, or they would prove nothing.

`mutants/` holds a patch for each mechanism. Its head says what it `Removes:` and which tests it is `Noticed by:`. They
all have to fail in a copy of the tree with the patch, and to pass in one without any. Run it as `make chaos-mutants`,
or for some of the patches as `PYTHONPATH=tests python -m chaos.mutants NAME…`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from chaos.patches import patched

ROOT: Final = Path(__file__).parents[2]
PATCHES: Final = Path(__file__).parent / "mutants"
#: What a copy consists of: the packages, the tests, and what tests read beside them.
COPIED: Final = ("src", "rest", "worker", "redis", "tests", "pyproject.toml")
PACKAGES: Final = {"unmix": "src", "unmix_rest": "rest", "unmix_worker": "worker"}

#: Exit statuses of pytest; any other means that the tests could not be run.
PASSED, FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Mutant:
    """One patch, and what is expected of the tests."""

    path: Path
    removes: str
    tests: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the head of a patch.

        Raises:
            ValueError: it does not say what it removes, or who notices.
        """
        fields: dict[str, list[str]] = {}
        for line in path.read_text().partition("\n--- ")[0].splitlines():
            key, _, value = line.partition(": ")
            fields.setdefault(key, []).append(value.strip())
        if not fields.get("Removes") or not fields.get("Noticed by"):
            raise ValueError(f"{path.name} has to begin with `Removes: …` and `Noticed by: …`")
        return cls(path, fields["Removes"][0], tuple(fields["Noticed by"]))


class Copy:
    """A copy of the tree whose packages are used instead of the installed ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(folder / part) for part in PACKAGES.values()),
            "TESTS_MACHINE_RUNS": "200",  # of the state machine: what some mutants do shows only in rare orders
        }
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name)
            else:
                shutil.copy2(ROOT / name, folder / name)

    def check_imports(self) -> None:
        """Raise `RuntimeError` if tests would not import the packages of this copy."""
        code = (
            f"import {', '.join(PACKAGES)}; print(*({', '.join(f'{name}.__file__' for name in PACKAGES)},), sep='\\n')"
        )
        command = [sys.executable, "-c", code]
        shown = subprocess.run(command, env=self._environment, cwd=self._folder, capture_output=True, text=True)
        for name, path in zip(PACKAGES, shown.stdout.splitlines(), strict=True):
            if not Path(path).is_relative_to(self._folder / PACKAGES[name]):
                raise RuntimeError(f"tests would import {name} from {path}, not from the copy")

    def apply(self, mutant: Mutant) -> str | None:
        """Apply the patch exactly; return what is wrong with it, None if nothing."""
        try:
            changed = patched(mutant.path.read_text(), self._folder)
        except (ValueError, FileNotFoundError) as error:
            return str(error)
        for path, text in changed.items():
            path.write_text(text)
        return None

    def test(self, tests: tuple[str, ...]) -> tuple[int, list[str], str]:
        """Run tests; return pytest's exit status, the ids of those that failed, and all that it said."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-rfE", *tests]
        run = subprocess.run(command, env=self._environment, cwd=self._folder, capture_output=True, text=True)
        ends = [line.split(" - ")[0].split(maxsplit=1) for line in run.stdout.splitlines()]
        red = [end[1] for end in ends if len(end) == 2 and end[0] in ("FAILED", "ERROR")]
        return run.returncode, red, run.stdout + run.stderr


@contextmanager
def copied() -> Iterator[Copy]:
    """Make a copy for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="unmix-mutant-") as folder:
        yield Copy(Path(folder).resolve())


def main(names: list[str]) -> int:
    """Print a table of the mutants; the exit status is 0 if the tree itself is green and every mutant is noticed."""
    mutants = [Mutant.read(path) for path in sorted(PATCHES.glob("*.patch"))]
    if unknown := set(names) - {mutant.path.stem for mutant in mutants}:
        print(f"no such mutant: {', '.join(sorted(unknown))}")
        return 1
    mutants = [mutant for mutant in mutants if not names or mutant.path.stem in names]
    with copied() as copy:
        copy.check_imports()
        status, _, said = copy.test(tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests)))
    if status != PASSED:
        print(said, "the tests have to pass without any mutant first", sep="\n")
        return 1
    print(f"{'mutant':28} {'removes':64} {'noticed by':76} {'s':>4}")
    return max([_judge(mutant) for mutant in mutants], default=1)


def _judge(mutant: Mutant) -> int:
    started = time.monotonic()
    with copied() as copy:
        wrong = copy.apply(mutant)
        status, red, said = copy.test(mutant.tests) if wrong is None else (None, [], wrong)
    # A test of many parameters is named as one.
    missed = [test for test in mutant.tests if not any(end == test or end.startswith(test + "[") for end in red)]
    if wrong is not None:
        verdict = "DOES NOT APPLY ANY MORE"
    elif status not in (PASSED, FAILED):
        verdict = "COULD NOT BE TESTED"
    elif missed:
        verdict = f"SURVIVES {', '.join(missed)}"
    else:
        verdict = ", ".join(test.rpartition("::")[2] for test in mutant.tests)
    is_noticed = wrong is None and status == FAILED and not missed
    print(f"{mutant.path.stem:28} {mutant.removes:64} {verdict:76} {time.monotonic() - started:4.0f}", flush=True)
    if not is_noticed and status != PASSED:
        print(said)
    return 0 if is_noticed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
