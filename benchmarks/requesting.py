"""What clients ask of a service, timed: single requests to several services in turn, and many a second to one."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from benchmarks import past
from benchmarks.load import at_rate, in_turn, of_rounds
from benchmarks.songs import second_of_noise
from unmix import names
from unmix.store.s3 import MinioStore

#: How often each request is made, unless that takes longer than the limit. Each removal needs a job of its own.
TIMES: Final = {"status": 300, "track": 300, "accept": 30, "remove": 30}
LIMIT_SECONDS: Final = 20
PER_SECOND: Final = 200
LOAD_SECONDS: Final = 10
LOAD_ROUNDS: Final = 5


class Client:
    """Asks one service for all that is measured."""

    def __init__(self, url: str, jobs: int) -> None:
        self.actions = {"status": self.status, "track": self.track, "accept": self.accept, "remove": self.remove}
        self._url = url
        self._jobs = jobs
        self._session = requests.Session()

    def status(self, number: int) -> None:
        """Ask for a finished job."""
        assert self._get(self._status_path(number)).json()["status"] == "done"

    def track(self, number: int) -> None:
        """Fetch a stem."""
        assert self._get(f"/apiv1/track/{past.job_id(_kept(number, self._jobs))}/vocals.mp3").content

    def accept(self, number: int) -> None:
        """Send a new song."""
        song = {"file": second_of_noise(number)}
        assert self._checked(self._session.post(f"{self._url}/apiv1/separate", files=song, timeout=120)).json()["hash"]

    def remove(self, number: int) -> None:
        """Remove a finished job, another one for each number."""
        self._checked(self._session.delete(f"{self._url}/apiv1/remove/{past.job_id(number)}", timeout=120))

    def load(self) -> tuple[list[float], int]:
        """Ask for finished jobs many times a second; see `at_rate`."""
        print(f"{PER_SECOND} requests a second, {self._jobs:,} finished jobs", flush=True)
        paths = [self._status_path(number) for number in range(PER_SECOND * LOAD_SECONDS)]
        return at_rate(int(urlsplit(self._url).port or 0), paths, per_second=PER_SECOND)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _status_path(self, number: int) -> str:
        return f"/apiv1/jobs/{past.job_id(_kept(number, self._jobs))}"

    def _get(self, path: str) -> requests.Response:
        return self._checked(self._session.get(self._url + path, timeout=120))

    def _checked(self, answer: requests.Response) -> requests.Response:
        answer.raise_for_status()
        return answer


def requests_in_turn(store: str, clients: Mapping[int, Client]) -> list[dict[str, Any]]:
    """Return how many ms each request took of each service, by its number of finished jobs."""
    measured = []
    for request, times in TIMES.items():
        print(f"{store}: {request}", flush=True)
        actions = {str(jobs): client.actions[request] for jobs, client in clients.items()}
        times_ms = in_turn(actions, times=times, limit_seconds=LIMIT_SECONDS)
        measured.append({"store": store, "request": request, "times_ms": times_ms})
    return measured


def load_in_turn(clients: Mapping[int, Client]) -> list[dict[str, Any]]:
    """Return how long answers took under load, of each service in several rounds: a stall of the machine spoils one."""
    rounds = [{jobs: client.load() for jobs, client in clients.items()} for _ in range(LOAD_ROUNDS)]
    return [{"jobs": jobs, **of_rounds([each[jobs] for each in rounds])} for jobs in clients]


def bare_in_turn(servers: Mapping[int, MinioStore]) -> list[dict[str, Any]]:
    """Return how many ms S3 servers take for one request, without any service of ours."""
    measured = []
    for request, ask in (("GET", _get), ("PUT", _put), ("list", _list)):
        actions: dict[str, Callable[[int], None]] = {
            str(jobs): partial(ask, server, jobs) for jobs, server in servers.items()
        }
        times_ms = in_turn(actions, times=TIMES["status"], limit_seconds=LIMIT_SECONDS)
        measured.append({"store": "S3", "request": f"bare {request}", "times_ms": times_ms})
    return measured


def _get(server: MinioStore, jobs: int, number: int) -> None:
    server.get(names.outcome_object(past.job_id(_kept(number, jobs))))


def _put(server: MinioStore, jobs: int, number: int) -> None:
    server.put(names.ObjectName(names.OUTPUT_BUCKET, f"bare/{number}"), b"bare")


def _list(server: MinioStore, jobs: int, number: int) -> None:
    prefix = names.attempt_prefix(past.job_id(_kept(number, jobs)))
    assert list(server.list(names.OUTPUT_BUCKET, prefix))


def _kept(number: int, jobs: int) -> int:
    """Return the number of a job that is never removed, far from that of the number before."""
    return TIMES["remove"] + number * 7919 % (jobs - TIMES["remove"])
