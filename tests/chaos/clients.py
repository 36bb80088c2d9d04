"""Those who post, cancel and remove songs, and ask again until they are answered. Answers go to the history.

In mass runs each client has a REST service of its own within its process, which dies with it, and which leaves out the
decoding of uploads alone, as those songs are no audio. In others it asks one by HTTP.
"""

import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import requests

from chaos.history import History
from chaos.stand_in_child import orders_in
from unmix.audio.probe import Probe, ProbedSong
from unmix.errors import QueueError
from unmix.names import hash_song
from unmix.queue.job_queue import JobQueue
from unmix.runtime.connect import connect_queue, connect_store, wait_for_services
from unmix.runtime.logs import configure_logs
from unmix.settings import Settings
from unmix_rest.app import create_app


@dataclass(frozen=True)
class Order:
    """What a client asks for. The pause comes first."""

    verb: Literal["post", "cancel", "remove"]
    song: bytes
    pause_seconds: float = 0
    callback_url: str | None = None


@dataclass(frozen=True)
class SongMaker:
    """Makes songs that say how long the stand-in takes over them; no two are alike."""

    run: str
    orders: dict[str, Any] = field(default_factory=dict)

    def __call__(self, number: int, **orders: Any) -> bytes:
        return json.dumps({"song": f"{self.run}-{number}", **self.orders, **orders}).encode()


#: Method, path and JSON body of a request to the status of its answer, 503 if there was none.
Rest = Callable[[str, str, dict[str, Any] | None], int]


def carry_out(orders: Sequence[Order], rest: Rest, queue: JobQueue, history: History, *, most_open: int) -> None:
    """Ask for one thing after the other; songs are posted while fewer than `most_open` jobs are open."""
    for order in orders:
        time.sleep(order.pause_seconds)
        if order.verb == "post":
            _wait_for_room(queue, most_open)
        while not ask(rest, order, history):
            time.sleep(0.1)


def rest_within(settings: Settings) -> Rest:
    """Return a REST service within this process that lets every upload pass for a song of a second."""

    def check(self: Probe, path: object, **options: Any) -> ProbedSong:
        return ProbedSong(1.0, ())

    Probe.check = check  # type: ignore[method-assign]
    configure_logs("rest", settings)
    queue, store = connect_queue(settings), connect_store(settings)
    wait_for_services(queue, store)
    client = create_app(settings, queue, store).test_client()
    return lambda method, path, body: client.open(path, method=method, json=body).status_code


def rest_at(url: str) -> Rest:
    """Return the REST service at `url`."""

    def call(method: str, path: str, body: dict[str, Any] | None) -> int:
        try:
            return requests.request(method, url + path, json=body, timeout=30).status_code
        except requests.RequestException:
            return 503

    return call


def ask(rest: Rest, order: Order, history: History) -> bool:
    """Ask once; False if the service was away."""
    job_id = hash_song(order.song)
    history.note("asked", verb=order.verb, job=job_id)
    if order.verb == "post":
        body: dict[str, Any] = {"mp3": base64.b64encode(order.song).decode()}
        if order.callback_url:
            body["callback"] = {"url": order.callback_url}
        status = rest("POST", "/apiv1/separate", body)
    elif order.verb == "cancel":
        status = rest("POST", f"/apiv1/jobs/{job_id}/cancel", None)
    else:
        status = rest("DELETE", f"/apiv1/remove/{job_id}", None)
    match order.verb, status:
        case _, 503:
            return False
        case "post", 200:
            called = order.callback_url is not None
            history.note("accepted", job=job_id, orders=orders_in(order.song), callback=called)
        case "cancel", 200:
            history.note("cancelled", job=job_id)
        case "cancel", 404 | 409:
            history.note("not cancelled", job=job_id)
        case "remove", 200 | 404:
            history.note("removed", job=job_id)
        case _:
            raise AssertionError(f"{order.verb} was answered with {status}")
    return True


def _wait_for_room(queue: JobQueue, most_open: int) -> None:
    while True:
        try:
            if queue.views.counts().open < most_open:
                return
        except QueueError:
            pass
        time.sleep(0.05)
