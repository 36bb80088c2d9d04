"""What the gate costs: songs that come in and jobs that are asked for, with it and without, in turn: for `exposed`."""

from pathlib import Path
from typing import Any, Final

from benchmarks import past
from benchmarks.gate_process import BEHIND_GATE, gate
from benchmarks.load import at_rate, of_rounds
from benchmarks.processes import Service
from benchmarks.rest_uploads import Client, Maker, at_once

PER_SECOND: Final = 200
#: One address asks for all, and more often than the gate lets it by itself.
_LIMITS: Final = {"UNMIX_GATE_REQUESTS_PER_SECOND": "1000", "UNMIX_GATE_CONNECTIONS": "64"}
_KNOWN: Final = 100  # jobs that are asked for


def measured(folder: Path, *, songs: int, size_bytes: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Return of each round how many seconds `songs` took that came at once, and how long jobs took to be told of."""
    store = past.file_store(folder / "store")
    for number in range(_KNOWN):
        past.put_finished(store, number)
    paths = [f"/apiv1/jobs/{past.job_id(number % _KNOWN)}" for number in range(round(PER_SECOND * seconds))]
    uploads: dict[str, list[float]] = {"straight": [], "gate": []}
    asked: dict[str, list[tuple[list[float], int]]] = {"straight": [], "gate": []}
    made = Maker(songs, size_bytes)
    with (
        Service(folder, {"UNMIX_STORE_URL": f"file://{store.root}", **BEHIND_GATE}) as service,
        service.rest_process() as (rest_port, _),
        gate(rest_port, folder / "gate.log", **_LIMITS) as gate_port,
    ):
        for number in range(rounds):
            print(f"{songs} songs at once and {PER_SECOND} requests a second, round {number + 1}", flush=True)
            for way, port in {"straight": rest_port, "gate": gate_port}.items():
                client = Client(port)
                uploads[way].append(at_once(client.raw, made.songs())[0])
                client.remove_all()
                asked[way].append(at_rate(port, paths, per_second=PER_SECOND))
    return {
        "songs": songs,
        "song_bytes": size_bytes,
        "per_second": PER_SECOND,
        "uploads_s": uploads,
        "asked": {way: of_rounds(rounds_of_it) for way, rounds_of_it in asked.items()},
    }
