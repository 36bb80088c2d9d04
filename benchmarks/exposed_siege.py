"""What a good client notices, and what REST needs, while others do what they can to stop it: for `exposed`.

The others are `benchmarks.exposed_attack`, a process of its own; the good client is here, at an address of its own.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import past
from benchmarks.clients import Answer, Client
from benchmarks.exposed_attack import Crowd
from benchmarks.gate_process import BEHIND_GATE, gate
from benchmarks.measure import TreeMemory, peak_rss_mb
from benchmarks.processes import Service, wait_until
from benchmarks.songs import noise
from unmix import names
from unmix.job import JobStatus
from unmix.ledger.ledger import utc_now
from unmix.outcome import Outcome, Ran, StemFile
from unmix.store.file import FileStore

#: The good client's address.
GOOD: Final = "127.0.0.9"
#: The stem that the others ask for, as large as one of three minutes of WAV.
STEM_BYTES: Final = 35_000_000
SONG_SECONDS: Final = 3.0
_HEALTH_PAUSE_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 0.5
_WAIT_SECONDS: Final = 30
_BEGIN_SECONDS: Final = 10
_MB: Final = 1_000_000


class _Asked:
    """What a good client was answered while this was entered, in seconds; None where it was not."""

    def __init__(self, port: int) -> None:
        self.health_s: list[float | None] = []
        self.accept_s: list[float | None] = []
        self.cancel_s: list[float | None] = []
        self.done_s: list[float | None] = []  # after the song was accepted
        self.client = Client(port, GOOD)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._ask_health, self._send_songs)]

    def __enter__(self) -> "_Asked":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask_health(self) -> None:
        while not self._ended.wait(_HEALTH_PAUSE_SECONDS):
            self.health_s.append(_seconds(self.client.ask("GET", "/healthz")))

    def _send_songs(self) -> None:
        """Send one song after the other; every other one is cancelled at once."""
        number = 0
        while not self._ended.wait(_PAUSE_SECONDS):
            sent = self.client.send(noise(number, SONG_SECONDS))
            self.accept_s.append(_seconds(sent))
            number += 1
            if not sent.ok:
                continue
            path = f"/apiv1/jobs/{sent.told['hash']}"
            if number % 2:
                self.cancel_s.append(_seconds(self.client.ask("POST", f"{path}/cancel")))
                continue
            over = self.client.ask("GET", f"{path}?wait={_WAIT_SECONDS}")
            is_done = over.ok and over.told["status"] == JobStatus.DONE
            self.done_s.append(_seconds(over) if is_done else None)


def straight(folder: Path, crowd: Crowd, *, seconds: float, rest_seconds: float) -> dict[str, Any]:
    """Return what was noticed while REST itself was besieged for so long, and what it kept `rest_seconds` later."""
    return _measured(folder, crowd, {}, seconds=seconds, rest_seconds=rest_seconds, is_behind_gate=False)


def behind_gate(folder: Path, crowd: Crowd, *, seconds: float, rest_seconds: float) -> dict[str, Any]:
    """Return the same of a REST behind the gate."""
    return _measured(folder, crowd, BEHIND_GATE, seconds=seconds, rest_seconds=rest_seconds, is_behind_gate=True)


def _measured(
    folder: Path, crowd: Crowd, settings: dict[str, str], *, seconds: float, rest_seconds: float, is_behind_gate: bool
) -> dict[str, Any]:
    store = past.file_store(folder / "store")
    stem = _put_large_stem(store)
    with (
        Service(folder, {"UNMIX_STORE_URL": f"file://{store.root}", **settings}) as service,
        service.worker(1, UNMIX_THREADS="1"),
        service.rest_process() as (rest_port, pid),
        gate(rest_port, folder / "gate.log") if is_behind_gate else nullcontext(rest_port) as port,
    ):
        before_mb = _rss_mb(pid)
        print(f"{crowd.all} hostile clients, {'behind the gate' if is_behind_gate else 'straight'}", flush=True)
        with TreeMemory(pid) as memory, _attacking(port, stem, crowd, seconds) as told:
            time.sleep(_BEGIN_SECONDS if seconds > _BEGIN_SECONDS else 0)
            with _Asked(port) as asked:
                wait_until(lambda: bool(told), "the siege ends", limit_seconds=seconds + 120)
        wait_until(lambda: not psutil.Process(pid).children(), "no song is being checked")
        after_mb = _rss_mb(pid)
        time.sleep(rest_seconds)
        return {
            "crowd": asdict(crowd),
            "seconds": seconds,
            "health_s": asked.health_s,
            "accept_s": asked.accept_s,
            "cancel_s": asked.cancel_s,
            "done_s": asked.done_s,
            "answers": dict(asked.client.answers),
            **told,
            "before_mb": before_mb,
            "peak_rss_mb": round(peak_rss_mb(pid), 1),
            "peak_tree_pss_mb": round(memory.peak_pss / _MB, 1),
            "after_mb": after_mb,
            "later_mb": _rss_mb(pid),
            "later_s": rest_seconds,
        }


def _put_large_stem(store: FileStore) -> str:
    """Put what a finished job with a large stem leaves behind, and return where that is to be had."""
    asked, data = past.request(0), os.urandom(_MB) * (STEM_BYTES // _MB)
    name = names.attempt_object(asked.job_id, "token", "vocals", "mp3")
    store.put(names.request_object(asked.job_id), asked.to_json())
    store.put(name, data)
    outcome = Outcome(
        asked.job_id,
        asked.generation,
        JobStatus.DONE,
        utc_now(),
        token="token",
        attempt=1,
        stems={"vocals": StemFile(name.key, len(data), sha256(data).hexdigest())},
        ran=Ran(past.MODEL, "ab" * 32, "cpu", 44_100, 180.0, 20.0),
    )
    store.put(names.outcome_object(asked.job_id), outcome.to_json())
    return f"/apiv1/track/{asked.job_id}/vocals"


@contextmanager
def _attacking(port: int, stem: str, crowd: Crowd, seconds: float) -> Iterator[dict[str, Any]]:
    """Let others attack; what they tell at their end is in what is yielded, which is empty until then."""
    told: dict[str, Any] = {}
    numbers = (seconds, *asdict(crowd).values())
    command = [sys.executable, "-m", "benchmarks.exposed_attack", str(port), stem, *map(str, numbers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)

    def read() -> None:
        assert process.stdout
        told.update(json.loads(process.stdout.read() or b'{"failed": true}'))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield told
    finally:
        process.kill()
        process.wait()
        reader.join()


def _rss_mb(pid: int) -> float:
    return round(psutil.Process(pid).memory_info().rss / _MB, 1)


def _seconds(answer: Answer) -> float | None:
    return round(answer.seconds, 4) if answer.ok else None
