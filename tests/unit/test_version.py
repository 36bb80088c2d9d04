"""The version is the same wherever it is named, and one command changes it everywhere; so are the pinned packages."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
#: Everything with text in it that could name the version.
PARTS = (
    *("Makefile", "pyproject.toml", "README.md", "deploy-local-dev.sh"),
    *("docs", "k8s", "minio", "redis", "rest", "src", "tests", "worker"),
)
#: No version of ours: a request of `pip`, and a made-up revision.
OTHERS = re.compile(r"^[a-z-]+==.*|v\d+\.\d+\.\d+-\d+-g\w+", re.MULTILINE)


def files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and text of every file of the parts."""
    for part in PARTS:
        for path in [root / part] if (root / part).is_file() else sorted((root / part).rglob("*")):
            if path.suffix in {"", ".md", ".py", ".sh", ".toml", ".yaml"} and path.is_file():
                yield str(path.relative_to(root)), OTHERS.sub("", path.read_text())


def test_all_that_name_the_version_agree() -> None:
    named = {
        path: set(re.findall(r"(?:newTag: |track-unmix-(?:rest|worker):)(\d+\.\d+\.\d+)", text))
        for path, text in files(ROOT)
    }
    assert {path: versions for path, versions in named.items() if versions - {VERSION}} == {}
    assert sum(map(bool, named.values())) > 5


def test_one_command_changes_the_version_everywhere(tmp_path: Path) -> None:
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "data"))
        else:
            shutil.copy(ROOT / part, tmp_path / part)
    subprocess.run(["make", "version-set", "VERSION=98.7.6"], cwd=tmp_path, check=True, capture_output=True)
    whole = re.compile(rf"(?<![\w.-]){re.escape(VERSION)}(?![\w.])")
    assert [path for path, text in files(tmp_path) if whole.search(text)] == []
    assert tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["version"] == "98.7.6"
    assert list(tmp_path.rglob("*.old")) == []


def test_a_version_that_is_none_or_the_same_is_refused_with_a_word_on_how_to_name_one() -> None:
    for variables in ([], ["VERSION=next"], [f"VERSION={VERSION}"]):
        done = subprocess.run(["make", "version-set", *variables], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode != 0
        assert f"make version-set VERSION=1.2.3`; this one is {VERSION}." in done.stdout


def test_every_package_that_is_asked_for_is_pinned() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "no host, no path, no local version"
    pinned = {canonical(line.partition("==")[0]) for line in lines}
    extras = PROJECT["optional-dependencies"]
    # torchaudio has to fit the torch of whoever installs it.
    asked = [*PROJECT["dependencies"], *(line for extra in extras if extra != "torchaudio" for line in extras[extra])]
    assert {canonical(re.split(r"[\[<>=!~ ]", line)[0]) for line in asked} - pinned == set()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
