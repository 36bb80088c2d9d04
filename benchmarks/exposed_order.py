"""How many songs of a client that has many waiting somebody else has to wait for: for `exposed`."""

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from benchmarks import past
from benchmarks.clients import Client
from benchmarks.processes import Service, wait_until
from benchmarks.songs import second_of_noise
from benchmarks.stand_in_worker import history

#: Where the two have their addresses.
MANY: Final = "127.0.0.2"
ONE: Final = "127.0.0.3"
_SENT_AT_ONCE: Final = 3
_LIMIT_SECONDS: Final = 300


def measured(folder: Path, songs: int) -> dict[str, Any]:
    """Return how many of one client's `songs` are begun between another's only one and its beginning.

    The worker begins when all of the many wait, and the other one sends when it has begun some of them.
    """
    store = past.file_store(folder / "store")
    settings = {"UNMIX_STORE_URL": f"file://{store.root}", "UNMIX_MODEL": "stand-in", "UNMIX_OPEN": "yes"}
    told = history(folder / "history.jsonl")
    told.path.touch()
    with Service(folder, settings) as service, service.rest_process() as (port, _):
        print(f"{songs} songs of one client, and one of another", flush=True)
        many, one = Client(port, MANY), Client(port, ONE)
        with ThreadPoolExecutor(_SENT_AT_ONCE) as pool:
            sent = list(pool.map(lambda number: many.send(second_of_noise(number)), range(songs)))
        accepted = [answer for answer in sent if answer.ok]

        def begun() -> Sequence[dict[str, Any]]:
            return [event for event in told.events() if event["event"] == "separating"]

        worker = ("benchmarks.stand_in_worker", str(told.path))
        with service.worker(1, *worker):
            wait_until(lambda: len(begun()) > 1, "some have begun")
            answer = one.send(second_of_noise(songs))
            at = time.monotonic()
            assert answer.ok, answer.told
            wait_until(
                lambda: any(event["job"] == answer.told["hash"] for event in begun()),
                "the one has begun",
                limit_seconds=_LIMIT_SECONDS,
            )
        since = (event["job"] for event in begun() if event["at"] > at)
        before = sum(1 for _ in itertools.takewhile(lambda job: job != answer.told["hash"], since))
        left = len(accepted) - sum(event["at"] <= at and event["job"] != answer.told["hash"] for event in begun())
        return {"songs": len(accepted), "refused": len(sent) - len(accepted), "waiting_then": left, "before": before}
