"""What comments and docstrings name is there: nobody is sent to a module or a function that was renamed."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "k8s", "rest", "src", "tests", "training", "worker")
SOURCES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])

_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_WORD = re.compile(r"[A-Za-z_]\w*")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            statement = node.body[0]
            assert isinstance(statement, ast.Expr)
            assert isinstance(statement.value, ast.Constant)
            yield statement.value


def tokens(path: Path, kind: int) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == kind:
            yield token.string


@cache
def names() -> frozenset[str]:
    """Return each name that code or a string in code has, and those of the files and of the Lua scripts."""
    found = {path.stem for path in SOURCES}
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        prose = {id(constant) for constant in docstrings(tree)}
        found.update(tokens(path, tokenize.NAME))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                found.update(_WORD.findall(node.value))
    for script in (ROOT / "src").rglob("*.lua"):
        found.update([script.stem, *_WORD.findall(script.read_text())])
    return frozenset(found)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_in_comments_and_docstrings_are_there(source: Path) -> None:
    said = [str(constant.value) for constant in docstrings(ast.parse(source.read_text()))]
    said += tokens(source, tokenize.COMMENT)
    named = {word for text in said for span in _SPAN.findall(text) for word in _WORD.findall(span)}
    # A word without an underscore may be anything.
    assert {word for word in named if "_" in word} - names() == set()
