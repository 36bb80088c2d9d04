"""What the pages name is there: files, modules, headings that links lead to, targets of make, pinned actions."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "docs", "k8s", "minio", "redis", "rest", "tests", "training", "worker")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])

_CODE = re.compile(r"^ {4}.*$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"(?:[\w.-]+/)*[\w-]+\.(?:conf|json|lua|md|patch|py|sh|template|toml|txt|yaml|yml)")
_MODULE = re.compile(r"(?<![\w/.-])unmix(?:_rest|_worker)?(?:\.[a-zA-Z_]\w*)+")
_MAKE = re.compile(r"(?:^ {4}|`)make ([a-z][a-z0-9-]*)", re.MULTILINE)
#: Files that a reader makes, or that stand for any.
_OF_THE_READER = {"kustomization.yaml", "k8s/overlays/mine/kustomization.yaml", "htdemucs.yaml"}


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@cache
def files() -> frozenset[str]:
    """Return the path of every file that a page may name, from the root."""
    folders = (*FOLDERS, "src", ".github", ".ci")
    inside = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return frozenset(path.relative_to(ROOT).as_posix() for path in (*inside, *ROOT.iterdir()) if path.is_file())


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", _CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def is_there(dotted: str) -> bool:
    """Tell whether a package of ours has this module, or a module of it this name."""
    parts = dotted.split(".")
    for root in ("src", "rest", "worker"):
        for length in range(len(parts), 0, -1):
            base = ROOT.joinpath(root, *parts[:length])
            source = next((each for each in (base.with_suffix(".py"), base / "__init__.py") if each.is_file()), None)
            if source is None:
                continue
            rest = parts[length:]
            return not rest or (len(rest) == 1 and re.search(rf"\b{rest[0]}\b", source.read_text()) is not None)
    return False


def test_links_lead_to_pages_files_and_headings_that_are_there(page: Path) -> None:
    for target, anchor in _LINK.findall(_CODE.sub("", page.read_text())):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        if anchor:
            assert anchor in headings(path), f"{target}#{anchor}"


def test_files_that_a_page_names_are_there(page: Path) -> None:
    named = {span for span in _SPAN.findall(_CODE.sub("", page.read_text())) if _FILE.fullmatch(span)}
    named = {name.removeprefix("./") for name in named} - _OF_THE_READER
    missing = {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files())}
    assert missing == set()


def test_modules_that_a_page_names_are_there(page: Path) -> None:
    named = {match.rstrip(".") for match in _MODULE.findall(page.read_text())}
    assert {name for name in named if not is_there(name)} == set()


def test_targets_that_a_page_gives_to_make_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(_MAKE.findall(page.read_text())) <= targets


def test_every_action_is_pinned_to_a_commit_with_its_version_beside() -> None:
    uses = [
        line.strip()
        for workflow in (ROOT / ".github" / "workflows").glob("*.yml")
        for line in workflow.read_text().splitlines()
        if "uses:" in line
    ]
    assert uses
    for line in uses:
        assert re.fullmatch(r"- uses: [\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line
