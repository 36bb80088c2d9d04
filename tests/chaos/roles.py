"""What the forked processes of a run are: the product's own main functions, clients, and the naive control.

The zygote imports this module, and with it all that those processes need.
"""

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import redis
import urllib3

import unmix_rest.__main__
import unmix_worker.__main__
from chaos import clients, stand_in
from chaos.clients import Order
from chaos.history import History
from chaos.points import Passage, Plan, watch_client, watch_worker
from unmix.janitor import janitor
from unmix.names import hash_song
from unmix.runtime.connect import connect_queue
from unmix.settings import Settings
from unmix.store import s3_http

#: The product waits a minute for an answer of the store; a run with time-outs cannot.
STORE_TIMEOUT_SECONDS: Final = 1.0


def run_worker(history: History, plans: Sequence[Plan]) -> int:
    """Be a worker, with the stand-in engine, and come to harm as planned."""
    passage = Passage(history, plans)
    watch_worker(passage)
    unmix_worker.__main__.SeparationProcess = stand_in.install(passage)  # type: ignore[attr-defined]
    _hurry_store()
    return unmix_worker.__main__.main()


def run_client(
    history: History, orders: Sequence[Order], plans: Sequence[Plan], most_open: int, rest_url: str | None
) -> None:
    """Ask the REST service at `rest_url`, or one within, for everything in `orders`, and come to harm as planned."""
    settings = Settings()
    watch_client(Passage(history, plans))
    rest = clients.rest_at(rest_url) if rest_url else clients.rest_within(settings)
    clients.carry_out(orders, rest, connect_queue(settings), history, most_open=most_open)


def run_janitor() -> None:
    """Be the janitor."""
    janitor.run(Settings())


def run_rest() -> int:
    """Be the REST service, on HTTP and with everything in it."""
    return unmix_rest.__main__.main()


def run_naive_worker(history: History, output: Path, dies_at: int = 0) -> None:
    """Be the simplest worker of the contract: BLPOP, work, write. Its `dies_at`-th song kills it after the pop."""
    settings = Settings()
    songs = 0
    with redis.Redis.from_url(settings.redis_url, password=settings.redis_password.get_secret_value()) as client:
        while True:
            _, data = client.blpop(["toWorker"])
            songs += 1
            if songs == dies_at:
                history.note("killed", pid=os.getpid(), point="after_pop")
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(json.loads(data).get("segment_seconds", 0.005))
            (output / f"{hash_song(data)}.done").write_bytes(b"")


def _hurry_store() -> None:
    s3_http.TIMEOUT_SECONDS = urllib3.Timeout(STORE_TIMEOUT_SECONDS)  # type: ignore[misc]
