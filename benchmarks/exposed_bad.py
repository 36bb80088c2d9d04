"""How what no client should send is answered, straight and through the gate: for `exposed`.

What that is has `tests/bad_requests.py`.
"""

import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bad_requests import BAD_REQUEST_SETTINGS, answered, bad_requests
from benchmarks.gate_process import BEHIND_GATE, gate
from benchmarks.processes import Service
from unmix.store.file import FileStore

_PATIENCE_SECONDS = 60


def measured(folder: Path) -> dict[str, Any]:
    """Return, of each way, how many requests there were, and how those were answered that were not as they should."""
    return {way: _sent(folder / way, is_behind_gate=way == "gate") for way in ("straight", "gate")}


def _sent(folder: Path, *, is_behind_gate: bool) -> dict[str, Any]:
    store = FileStore(folder / "store")
    settings = {"UNMIX_STORE_URL": f"file://{store.root}", **BAD_REQUEST_SETTINGS}
    settings |= BEHIND_GATE if is_behind_gate else {}
    many = {"UNMIX_GATE_REQUESTS_PER_SECOND": "1000", **BAD_REQUEST_SETTINGS}
    with (
        Service(folder, settings) as service,
        service.rest_process() as (rest_port, _),
        gate(rest_port, folder / "gate.log", **many) if is_behind_gate else nullcontext(rest_port) as port,
    ):
        requests = list(bad_requests())
        wrong: list[str] = []
        errors = 0
        for request in requests:
            with socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS) as peer:
                told = answered(peer, request)
            errors += told.status == 500
            if not told.is_as_wanted(request):
                wrong.append(f"{request.name}: {told.status} {told.code}")
        kept = [info for bucket in ("queue", "output") for info in store.list(bucket)]
    return {"requests": len(requests), "wrong": wrong, "errors": errors, "kept": len(kept)}
