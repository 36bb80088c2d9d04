"""Measures what must not grow with all that was ever separated: the second half of `make bench-service`.

The same requests go in turn to two services, one with `FEW` finished jobs and one with many, on a file store and on an
S3 server; a janitor then keeps house in each, and Redis forgets everything. All is seen from outside: HTTP, Redis, and
the memory of the janitor's process.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import housekeeping, past
from benchmarks.filled_s3 import ACCESS_KEY, SECRET_KEY, filled_s3
from benchmarks.processes import Service
from benchmarks.report import publish
from benchmarks.requesting import PER_SECOND, Client, bare_in_turn, load_in_turn, requests_in_turn
from unmix.store.s3 import MinioStore

FEW: Final = 100
MANY: Final = 100_000


def main() -> None:
    """Measure all of it and add it to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=MANY, help="finished jobs of the larger service")
    parser.add_argument("--output", type=Path, help="folder for JSON and page, instead of benchmarks/results and docs")
    options = parser.parse_args()
    if options.jobs <= FEW:
        parser.error(f"--jobs has to be more than {FEW}")
    started_at = time.monotonic()
    parent = past.roomy_folder(options.jobs)
    with tempfile.TemporaryDirectory(prefix="unmix-bench-", dir=parent) as folder:
        measured = _on_files(Path(folder) / "file", options.jobs)
    with tempfile.TemporaryDirectory(prefix="unmix-bench-", dir=parent) as folder:
        measured["requests"] += _on_s3(Path(folder), options.jobs)
    measured |= {
        "jobs": [FEW, options.jobs],
        "open": housekeeping.OPEN,
        "per_second": PER_SECOND,
        "in_memory": parent == past.MEMORY,
        "took_minutes": round((time.monotonic() - started_at) / 60, 1),
    }
    command = "make bench-service" if options.jobs == MANY else f"python -m benchmarks.history --jobs {options.jobs}"
    publish("history", command, measured, options.output)


def _on_files(folder: Path, many: int) -> dict[str, Any]:
    """Measure requests, load, passes and the loss of Redis on file stores."""
    services: dict[int, Service] = {}
    stores = {jobs: folder / str(jobs) / "store" for jobs in (FEW, many)}
    with ExitStack() as running:
        for jobs, store in stores.items():
            print(f"file store: {jobs:,} finished jobs are made", flush=True)
            past.fill(store, jobs)
            services[jobs] = running.enter_context(Service(store.parent, {"UNMIX_STORE_URL": f"file://{store}"}))
        with _clients(services) as clients:
            requests = requests_in_turn("file", clients)
            load = load_in_turn(clients)
        passes = [housekeeping.passes(jobs, service, stores[jobs]) for jobs, service in services.items()]
        flushed = housekeeping.flushed(services[many], stores[many], many)
    return {"requests": requests, "load": load, "janitor": passes, "flushed": flushed}


def _on_s3(folder: Path, many: int) -> list[dict[str, Any]]:
    """Measure requests on S3 servers, and what these take by themselves."""
    services: dict[int, Service] = {}
    servers: dict[int, MinioStore] = {}
    with ExitStack() as running:
        for jobs in (FEW, many):
            print(f"S3 server: {jobs:,} finished jobs are made", flush=True)
            (folder / str(jobs)).mkdir()
            endpoint, servers[jobs] = running.enter_context(filled_s3(folder / str(jobs), jobs))
            store = {
                "UNMIX_STORE_URL": f"s3+http://{endpoint}",
                "UNMIX_STORE_ACCESS_KEY": ACCESS_KEY,
                "UNMIX_STORE_SECRET_KEY": SECRET_KEY,
            }
            services[jobs] = running.enter_context(Service(folder / str(jobs), store))
        with _clients(services) as clients:
            return bare_in_turn(servers) + requests_in_turn("S3", clients)


@contextmanager
def _clients(services: Mapping[int, Service]) -> Iterator[dict[int, Client]]:
    """Run REST on every service."""
    with ExitStack() as running:
        clients = {}
        for jobs, service in services.items():
            clients[jobs] = Client(running.enter_context(service.rest()), jobs)
            running.callback(clients[jobs].close)
        yield clients


if __name__ == "__main__":
    main()
