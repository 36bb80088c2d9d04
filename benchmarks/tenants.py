"""Whether an id of another tenant can be told from one that nobody has by how long the answer takes.

    .venv/bin/python -m benchmarks.tenants

Both are asked for in turn over one connection that stays open. The difference of the medians says something only if it
is larger than those of halves of what was answered for nobody's, which have nothing to tell: that is the noise.
"""

import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Final

import requests

from benchmarks.processes import Service
from benchmarks.songs import second_of_noise
from unmix.access.keyring import Keyring
from unmix.access.keys import USUAL
from unmix.access.tenants import SecretIds
from unmix.store.file import FileStore

#: How often is asked for another tenant's id, and half as often as for one that nobody has.
TIMES: Final = 1000
#: In how many ways these are halved, and which part of the differences between halves counts as noise.
_HALVINGS: Final = 200
_USUAL_NOISE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Told:
    """What the times of answers tell, in ms."""

    another_ms: float  # median, of ids of another tenant
    nobodys_ms: float  # of ids that nobody has
    noise_ms: float

    @property
    def difference_ms(self) -> float:
        """How far the medians are apart."""
        return abs(self.another_ms - self.nobodys_ms)


def times_ms(port: int, key: str, job_id: str, *, times: int = TIMES) -> tuple[list[float], list[float]]:
    """Return how long a job of another tenant is asked for with this key, and twice as often one that nobody has."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {key}"}

    def ask(asked: str) -> float:
        began = time.perf_counter()
        connection.request("GET", f"/apiv1/jobs/{asked}", headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 404, answer.status
        return 1000 * (time.perf_counter() - began)

    another: list[float] = []
    nobodys: list[float] = []
    # One, as what comes again is answered faster, and of a tenant's form, as that is for everybody to see.
    nobodys_id = SecretIds(secrets.token_bytes()).drawn()
    for number in range(3 * times):  # the order of the three is another one each time, as one may disturb the next
        if number % 3 == number // 3 % 3:
            another.append(ask(job_id))
        else:
            nobodys.append(ask(nobodys_id))
    connection.close()
    return another, nobodys


def told_by(another: Sequence[float], nobodys: Sequence[float]) -> Told:
    """Return what such times tell."""
    draw, mixed, apart = Random(1), list(nobodys), []
    half = len(mixed) // 2
    for _ in range(_HALVINGS):
        draw.shuffle(mixed)
        apart.append(abs(statistics.median(mixed[:half]) - statistics.median(mixed[half:])))
    noise = sorted(apart)[int(_USUAL_NOISE * len(apart))]
    return Told(statistics.median(another), statistics.median(nobodys), noise)


def measure(folder: Path, *, times: int = TIMES) -> dict[str, Told]:
    """Return what a tenant, and the main one, are told by how long they wait, on a store in `folder`."""
    store = FileStore(folder / "store")
    store.prepare()
    keyring = Keyring(store)
    keys = {tenant: keyring.create(tenant, scopes=USUAL, tenant=tenant)[1] for tenant in ("choir", "band", "main")}
    settings = {"UNMIX_STORE_URL": f"file://{folder / 'store'}", "UNMIX_AUTH": "keys", "UNMIX_MODEL": "demo"}
    with Service(folder, settings) as service, service.rest_process() as (port, _):
        song = {"file": second_of_noise(1)}
        headers = {"Authorization": f"Bearer {keys['choir']}"}
        sent = requests.post(f"http://127.0.0.1:{port}/apiv1/jobs", files=song, headers=headers, timeout=120).json()
        return {
            tenant: told_by(*times_ms(port, keys[tenant], sent["hash"], times=times)) for tenant in ("band", "main")
        }


def main() -> int:
    """Print what is told; the exit status is 1 if that is anything."""
    with tempfile.TemporaryDirectory() as folder:
        all_told = measure(Path(folder))
    for tenant, told in all_told.items():
        print(
            f"{tenant}: another tenant's id {told.another_ms:.3f} ms, nobody's {told.nobodys_ms:.3f} ms, "
            f"apart {told.difference_ms:.4f} ms, noise {told.noise_ms:.4f} ms"
        )
    return int(any(told.difference_ms > told.noise_ms for told in all_told.values()))


if __name__ == "__main__":
    sys.exit(main())
