"""The patches of `make chaos-mutants` fit the code as it is. That tests notice them is shown there."""

import subprocess

import pytest

from chaos.mutants import PATCHES, ROOT, Mutant

MUTANTS = {path.stem: Mutant.read(path) for path in sorted(PATCHES.glob("*.patch"))}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_a_mutant_applies_and_names_tests_that_are_there(name: str) -> None:
    mutant = MUTANTS[name]
    command = ["git", "apply", "--check", str(mutant.path)]
    applied = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert applied.returncode == 0, applied.stderr
    for test in mutant.tests:
        path, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text()
