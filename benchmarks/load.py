"""How long requests take: the same on several services in turn, and many a second on one."""

import http.client
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

_CLIENTS: Final = 16
#: A service that cannot keep up gets this many times as long as it should need; what is not sent by then never is.
_PATIENCE: Final = 2
_SHARES: Final = {"p50_ms": 50, "p99_ms": 99, "most_ms": 100}


def in_turn(
    actions: Mapping[str, Callable[[int], None]], *, times: int, limit_seconds: float
) -> dict[str, list[float]]:
    """Return how many ms each action took each time, the number of which it is given.

    After `limit_seconds` no further round begins, but three are made in any case.
    """
    times_ms: dict[str, list[float]] = {name: [] for name in actions}
    deadline = time.monotonic() + limit_seconds
    for number in range(times):
        if number >= 3 and time.monotonic() > deadline:
            break
        for name, action in actions.items():
            started = time.perf_counter()
            action(number)
            times_ms[name].append(round(1000 * (time.perf_counter() - started), 2))
    return times_ms


def at_rate(port: int, paths: Sequence[str], *, per_second: float, method: str = "GET") -> tuple[list[float], int]:
    """Ask 127.0.0.1 for all `paths`, so many a second whether or not the answers come.

    Returns how many ms passed from the moment at which each was due until it was answered, and how many were never
    sent.
    """
    begin = time.monotonic() + 0.5
    deadline = begin + _PATIENCE * len(paths) / per_second
    times_ms: list[float] = []
    failures: list[Exception] = []

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            for number in range(first, len(paths), _CLIENTS):
                due = begin + number / per_second
                time.sleep(max(0.0, due - time.monotonic()))
                if time.monotonic() > deadline:
                    return
                connection.request(method, paths[number])
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{paths[number]}: {answer.status}")
                times_ms.append(round(1000 * (time.monotonic() - due), 2))
        except Exception as error:  # for the caller, who would not see it in a thread
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return times_ms, len(paths) - len(times_ms)


def of_rounds(rounds: Sequence[tuple[list[float], int]]) -> dict[str, Any]:
    """Return what several rounds of `at_rate` tell: how many requests there were, and how long they took in each."""
    return {
        "requests": sum(len(times_ms) + unsent for times_ms, unsent in rounds),
        "unsent": sum(unsent for _, unsent in rounds),
        **{
            name: [round(float(np.percentile(times_ms, share)), 2) for times_ms, _ in rounds]
            for name, share in _SHARES.items()
        },
    }
