"""The conditions of a measurement, as they stand in its JSON: processor, software, commit. No host, user or path."""

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.gemm import gemm_gflops

#: Instruction sets that decide how fast a CPU multiplies matrices.
_FLAGS: Final = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
)
#: AMD's families by the name that people know; a machine in a cloud says no more than "AMD EPYC".
_FAMILIES: Final = {"23": "Zen 1 or 2", "25": "Zen 3 or 4", "26": "Zen 5"}
_GEMM_SIZE: Final = 2048  # large enough for the peak, and less than a second where there is no bfloat16
#: Long enough to see what else the machine does.
_IDLE_SECONDS: Final = 2.0
_PACKAGES: Final = ("torch", "demucs", "openvino", "av", "lameenc", "numpy")


def conditions() -> dict[str, Any]:
    """Return what a reader needs to judge or repeat a measurement. Takes seconds: it measures the CPU's peaks.

    `torch_threads` is how many threads torch takes unless it is told otherwise, and thus demucs; `others` is the share
    of all processors that was busy while the benchmark did nothing.
    """
    others = psutil.cpu_percent(_IDLE_SECONDS) / 100
    gflops, threads = gemm_gflops(_GEMM_SIZE)
    cpu = _cpu()
    flags = cpu.get("flags", "").split()
    return {
        "machine": {
            "cpu": cpu.get("model name", platform.processor()),
            "family_model_stepping": [cpu.get(key, "") for key in ("cpu family", "model", "stepping")],
            "cores": psutil.cpu_count(logical=False),
            "threads": psutil.cpu_count(),
            "torch_threads": threads,
            "others": round(others, 3),
            "flags": [flag for flag in _FLAGS if flag in flags],
            "peak_gflops": gflops,
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "os": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
            "architecture": platform.machine(),
        },
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def processor(machine: dict[str, Any]) -> str:
    """Return the name of a machine's processor, with its generation where it is known."""
    generation = _FAMILIES.get(machine["family_model_stepping"][0]) if "AMD" in machine["cpu"] else None
    if generation == "Zen 3 or 4":
        generation = "Zen 4" if "avx512f" in machine["flags"] else "Zen 3"
    return f"{machine['cpu']} ({generation})" if generation else str(machine["cpu"])


def has_bfloat16(machine: dict[str, Any]) -> bool:
    """Say whether a machine has instructions for bfloat16; without them `fast` computes in float32."""
    return any(flag in machine["flags"] for flag in ("avx512_bf16", "amx_bf16"))


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
