"""The conditions of a measurement, as they stand in its JSON: processor, software, commit. No host, user or path."""

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import psutil

#: Instruction sets that decide how fast a CPU multiplies matrices.
_FLAGS: Final = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
)
_PACKAGES: Final = ("torch", "demucs", "openvino", "av", "lameenc", "numpy")


def conditions() -> dict[str, Any]:
    """Return what a reader needs to judge or repeat a measurement."""
    cpu = _cpu()
    flags = cpu.get("flags", "").split()
    return {
        "machine": {
            "cpu": cpu.get("model name", platform.processor()),
            "family_model_stepping": [cpu.get(key, "") for key in ("cpu family", "model", "stepping")],
            "cores": psutil.cpu_count(logical=False),
            "threads": psutil.cpu_count(),
            "flags": [flag for flag in _FLAGS if flag in flags],
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "os": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
            "architecture": platform.machine(),
        },
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def _cpu() -> dict[str, str]:
    """Return what /proc/cpuinfo says of the first processor."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of this checkout, marked if it has changes; None where nothing can tell."""
    if shutil.which("git") is None:
        return None
    folder = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*", "--abbrev=10"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    return described.stdout.strip() or None
