"""How well clients are told when their songs will be done: for `benchmarks.rest`.

A real worker with the demo model separates noise of many lengths, in the order in which it was sent. What counts is
what the events said when a song had just been queued.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import requests

from benchmarks.processes import Service, wait_until
from benchmarks.rest_streams import Streams
from benchmarks.scratch import CONVERTED
from benchmarks.songs import noise
from benchmarks.workers import separate

_LIMIT_SECONDS: Final = 1800
#: Numbers of songs that are separated beforehand are below, the others from here on.
_FIRST: Final = 1000


def measured(folder: Path, before_s: Sequence[float], lengths_s: Sequence[float]) -> dict[str, Any]:
    """Return of a song of each length how long it was told to take when it was queued, and how long it took.

    Songs of `before_s` are separated before: until one was, nobody can say.
    """
    settings = {"UNMIX_STORE_URL": f"file://{folder / 'store'}", "UNMIX_CACHE_DIR": str(CONVERTED)}
    with (
        Service(folder, settings) as service,
        service.rest_process() as (port, _),
        service.janitor(),
        service.worker(0),
        Streams(port) as streams,
        requests.Session() as session,
    ):
        url = f"http://127.0.0.1:{port}"
        separate(url, [noise(number, seconds) for number, seconds in enumerate(before_s)])
        print(f"{len(lengths_s)} songs are queued", flush=True)
        for number, seconds in enumerate(lengths_s):
            song = noise(_FIRST + number, seconds)
            answer = session.post(f"{url}/apiv1/jobs", files={"file": song}, timeout=120)
            answer.raise_for_status()
            streams.open(f"/apiv1/jobs/{answer.json()['hash']}/events")
        for number in range(len(lengths_s)):
            wait_until(partial(_is_over, streams, number), "a song is done", limit_seconds=_LIMIT_SECONDS)
        told = [_told_and_true(streams, number) for number in range(len(lengths_s))]
    songs = [{"song_s": seconds, **each} for seconds, each in zip(lengths_s, told, strict=True) if each]
    return {"before_s": list(before_s), "songs": songs, "never_told": len(lengths_s) - len(songs)}


def _is_over(streams: Streams, number: int) -> bool:
    statuses = [data["status"] for _, data in streams.events(number)]
    if {"failed", "cancelled"} & set(statuses):
        raise RuntimeError(f"a song is {statuses[-1]}")
    return "done" in statuses


def _told_and_true(streams: Streams, number: int) -> dict[str, float] | None:
    """Return how long the first event that knew said it would be until the end, and how long it was from then.

    None if the song was done before anybody could say.
    """
    events = streams.events(number)
    over_at = next(at for at, data in events if data["status"] == "done")
    for at, data in events:
        if data["eta_seconds"] is not None:
            return {"told_s": data["eta_seconds"], "true_s": round(over_at - at, 2)}
    return None
