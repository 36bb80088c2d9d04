"""The patches of `make chaos-mutants` fit the code as it is. That tests notice them is shown there."""

from pathlib import Path

import pytest

from chaos.mutants import PATCHES, ROOT, Mutant
from chaos.patches import patched

MUTANTS = {path.stem: Mutant.read(path) for path in sorted(PATCHES.glob("*.patch"))}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_a_mutant_applies_and_names_tests_that_are_there(name: str) -> None:
    mutant = MUTANTS[name]
    patched(mutant.path.read_text(), ROOT)
    for test in mutant.tests:
        path, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / path).read_text()


PATCH = """Removes: nothing
--- a/song
+++ b/song
@@ -1,4 +1,3 @@
 one
--- two
 three
-four
+for
@@ -7,1 +6,2 @@
 seven
+eight
"""


def test_a_patch_is_applied_where_its_lines_are(tmp_path: Path) -> None:
    (tmp_path / "song").write_text("zero\none\n-- two\nthree\nfour\nfive\nsix\nseven\n")
    assert patched(PATCH, tmp_path) == {tmp_path / "song": "zero\none\nthree\nfor\nfive\nsix\nseven\neight\n"}


@pytest.mark.parametrize("song", ["one\n-- two\nthree\nfour\n", "one\n-- 2\nthree\nfour\nseven\n"])
def test_a_patch_whose_lines_are_not_there_is_refused(tmp_path: Path, song: str) -> None:
    (tmp_path / "song").write_text(song)
    with pytest.raises(ValueError, match="song has not the lines of @@"):
        patched(PATCH, tmp_path)


def test_a_patch_without_changes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing in it"):
        patched("Removes: nothing\n", tmp_path)
