"""How long REST takes to tell of jobs, asked many times a second, by how many jobs it knows: for `benchmarks.rest`.

Services with few jobs and with many are asked in turn, so that what is compared was measured in the same minutes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import requests

from benchmarks import past, present
from benchmarks.filled_s3 import ACCESS_KEY, SECRET_KEY, filled_s3
from benchmarks.load import at_rate, of_rounds
from benchmarks.processes import Service
from unmix.store.protocol import ObjectStore

#: Jobs that run while it is asked.
RUNNING: Final = 10
#: An S3 server computes on the same processors, and each view asks it several times.
S3_PER_SECOND: Final = 50
PER_SECOND: Final = 200
#: A search for a name that no job has looks at 1,000 of them each time.
RARE_PER_SECOND: Final = 10

#: What is asked of the list, and how many jobs the first page of each has, wherever 100 jobs are known.
_LISTS: Final = {
    "list": ("", 50),
    "list, by label": ("?label=even", 50),
    "list, by status": ("?status=done", 50),
    "list, by a part of the name of every other job": ("?name=even", 50),
    "list, by a name that no job has": ("?name=nowhere", 0),
}
_RARE: Final = "list, by a name that no job has"
_VIEWS: Final = ("finished job", "running job")


class _Filled:
    """A service that knows so many jobs."""

    def __init__(self, port: int, jobs: int, running: Sequence[str]) -> None:
        self._port = port
        self._jobs = jobs
        self._running = running

    def ask(self, kind: str, *, per_second: int, seconds: float) -> tuple[list[float], int]:
        """Ask for one kind of thing; see `at_rate`."""
        paths = [self._path(kind, number) for number in range(max(1, round(per_second * seconds)))]
        self._check(kind, paths[0])
        return at_rate(self._port, paths, per_second=per_second)

    def _path(self, kind: str, number: int) -> str:
        if kind in _LISTS:
            return f"/apiv1/jobs{_LISTS[kind][0]}"
        if kind == "running job":
            return f"/apiv1/jobs/{self._running[number % len(self._running)]}"
        return f"/apiv1/jobs/{past.job_id(number * 7919 % self._jobs)}"

    def _check(self, kind: str, path: str) -> None:
        """Make sure that what is going to be timed is what it is called."""
        answer = requests.get(f"http://127.0.0.1:{self._port}{path}", timeout=60).json()
        if kind in _LISTS:
            assert len(answer["jobs"]) == _LISTS[kind][1], (kind, len(answer["jobs"]))
        else:
            assert answer["status"] == ("running" if kind == "running job" else "done"), answer


def on_files(folder: Path, sizes: Sequence[int], *, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Measure jobs and the list of jobs on file stores."""
    with ExitStack() as entered:
        filled = {}
        for jobs in sizes:
            print(f"file store: {jobs:,} finished jobs are made", flush=True)
            root = folder / str(jobs) / "store"
            past.fill(root, jobs)
            settings = {"UNMIX_STORE_URL": f"file://{root}"}
            filled[jobs] = entered.enter_context(_filled(root.parent, settings, past.file_store(root), jobs))
        rates = dict.fromkeys((*_VIEWS, *_LISTS), PER_SECOND) | {_RARE: RARE_PER_SECOND}
        return _in_turn("file", filled, rates, rounds=rounds, seconds=seconds)


def on_s3(folder: Path, sizes: Sequence[int], *, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Measure jobs on S3 servers; the list of jobs asks no store."""
    with ExitStack() as entered:
        filled = {}
        for jobs in sizes:
            print(f"S3 server: {jobs:,} finished jobs are made", flush=True)
            (folder / str(jobs)).mkdir()
            endpoint, store = entered.enter_context(filled_s3(folder / str(jobs), jobs))
            settings = s3_settings(endpoint)
            filled[jobs] = entered.enter_context(_filled(folder / str(jobs), settings, store, jobs))
        return _in_turn("S3", filled, dict.fromkeys(_VIEWS, S3_PER_SECOND), rounds=rounds, seconds=seconds)


def s3_settings(endpoint: str) -> dict[str, str]:
    """Return the variables that name an S3 server, which clients may reach too."""
    return {
        "UNMIX_STORE_URL": f"s3+http://{endpoint}",
        "UNMIX_STORE_PUBLIC_URL": f"http://{endpoint}",
        "UNMIX_STORE_ACCESS_KEY": ACCESS_KEY,
        "UNMIX_STORE_SECRET_KEY": SECRET_KEY,
    }


@contextmanager
def _filled(folder: Path, settings: Mapping[str, str], store: ObjectStore, jobs: int) -> Iterator[_Filled]:
    """Run REST where `jobs` jobs are over and listed, and some run."""
    with Service(folder, settings) as service, service.queue() as queue, service.rest_process() as (port, _):
        past.note(queue.job_list, jobs)
        running = present.accept(store, queue, range(jobs, jobs + RUNNING), batch="present")
        present.begin(queue, RUNNING)
        yield _Filled(port, jobs, running)


def _in_turn(
    store: str, filled: Mapping[int, _Filled], rates: Mapping[str, int], *, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    measured = []
    for kind, per_second in rates.items():
        print(f"{store}: {kind}, {per_second} times a second", flush=True)
        asked = [
            {jobs: each.ask(kind, per_second=per_second, seconds=seconds) for jobs, each in filled.items()}
            for _ in range(rounds)
        ]
        by_jobs = {str(jobs): of_rounds([each[jobs] for each in asked]) for jobs in filled}
        measured.append(
            {
                "store": store,
                "request": kind,
                "per_second": per_second,
                "has_target": kind != _RARE,
                "by_jobs": by_jobs,
            }
        )
    return measured
