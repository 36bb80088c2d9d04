"""`python -m benchmarks.exposed_room FOLDER SONGS`: songs until a small disk is full, and what is lost: for `exposed`.

The disk is one in memory, which this process mounts for itself and for nobody else: it is started by `measured` in a
mount namespace of its own, in which any user may mount where the kernel lets users have one. All that the service
writes lies there.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import past
from benchmarks.clients import Answer, Client
from benchmarks.processes import Service, wait_until
from benchmarks.songs import noise
from benchmarks.stand_in_worker import history
from unmix.ledger.room import reserve_bytes, room_at

#: Of which as many fit as there are MB: a song has 0.35 of them, its stems take 0.46, and a tenth is reserved.
_SONG_SECONDS: Final = 2.0
_MB_A_SONG: Final = 1.0
_SENT_AT_ONCE: Final = 3
_WORKERS: Final = 2
_LIMIT_SECONDS: Final = 300
#: After this many refusals in a row the disk counts as full.
_REFUSALS: Final = 4
_ADDRESS: Final = "127.0.0.2"
_TELL: Final = ("/healthz", "/apiv1/queue", "/apiv1/jobs", "/apiv1/jobs/{}", "/apiv1/models")


def measured(songs: int) -> dict[str, Any] | None:
    """Return how many songs were owed, lost and refused, and how; None where this user may mount nothing."""
    with tempfile.TemporaryDirectory(prefix="unmix-bench-") as folder:
        as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
        command = ["unshare", "--mount", *as_root, sys.executable, "-m", "benchmarks.exposed_room", folder, str(songs)]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        except FileNotFoundError:
            return None
        if done.returncode:
            print("the disk was not filled: see above", flush=True)
            return None
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def main() -> None:
    """Mount, measure and print."""
    folder, songs = Path(sys.argv[1]), int(sys.argv[2])
    size = f"size={round(songs * _MB_A_SONG * 1e6)},mode=0755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    print(json.dumps(_filled(folder, songs)))


def _filled(disk: Path, songs: int) -> dict[str, Any]:
    (disk / "tmp").mkdir()
    store = past.file_store(disk / "store")
    told = history(disk / "history.jsonl")
    settings = {
        "UNMIX_STORE_URL": f"file://{store.root}",
        "UNMIX_MODEL": "stand-in",
        "UNMIX_MIN_FREE_GB": "1",  # and so a tenth of this disk
        "UNMIX_RECONCILE_SECONDS": "2",
        "UNMIX_LOG_LIST_MAX": "0",
        "TMPDIR": str(disk / "tmp"),
    }
    with Service(disk, settings) as service, service.rest_process() as (port, _):
        client = Client(port, _ADDRESS)
        print(f"songs until a disk of {songs * _MB_A_SONG:g} MB is full", flush=True)
        accepted = _fill(client, songs)
        with _asking(client, accepted[0]):
            ballast = _down_to_the_reserve(disk)
            refused = [client.send(noise(10**6 + number, _SONG_SECONDS)) for number in range(3)]
            removed = [client.ask("DELETE", f"/apiv1/jobs/{job_id}") for job_id in accepted[1::10]]
            ballast.unlink()
            again = [client.send(noise(2 * 10**6 + number, _SONG_SECONDS)) for number in range(3)]
            owed = [job for job in accepted if job not in set(accepted[1::10])] + [
                answer.told["hash"] for answer in again if answer.ok
            ]
            with ExitStack() as running:
                running.enter_context(service.janitor())
                for number in range(_WORKERS):
                    running.enter_context(service.worker(number, "benchmarks.stand_in_worker", str(told.path)))
                wait_until(
                    lambda: not _ask_queue(client), "all songs are done", limit_seconds=_LIMIT_SECONDS, pause_seconds=1
                )
                lost = [job_id for job_id in owed if not _is_whole(client, job_id)]
        return {
            "disk_mb": songs * _MB_A_SONG,
            "accepted": len(accepted),
            "removed": sum(answer.status == 204 for answer in removed),
            "asked_to_remove": len(removed),
            "refused_at_the_reserve": dict(Counter(_said(answer) for answer in refused)),
            "accepted_again": sum(answer.ok for answer in again),
            "owed": len(owed),
            "lost": len(lost),
            "answers": dict(client.answers),
        }


def _fill(client: Client, songs: int) -> list[str]:
    """Send songs until they are refused, and return the jobs."""
    with ThreadPoolExecutor(_SENT_AT_ONCE) as pool:
        accepted: list[str] = []
        refusals = 0
        for begin in range(0, 3 * songs, _SENT_AT_ONCE):
            numbers = range(begin, begin + _SENT_AT_ONCE)
            for answer in pool.map(lambda number: client.send(noise(number, _SONG_SECONDS)), numbers):
                if answer.ok:
                    accepted.append(answer.told["hash"])
                refusals = 0 if answer.ok else refusals + 1
            if refusals >= _REFUSALS:
                return accepted
    raise RuntimeError("the disk does not come to its reserve")


@contextmanager
def _asking(client: Client, job_id: str) -> Iterator[None]:
    """Ask for this and that while the block runs."""
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(0.2):
            for path in _TELL:
                client.ask("GET", path.format(job_id))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _down_to_the_reserve(disk: Path) -> Path:
    """Write a file that leaves no more than the reserve of the disk."""
    room = room_at(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, room.free_bytes - reserve_bytes(room, 1))))
    return ballast


def _ask_queue(client: Client) -> int:
    """Return how many songs wait or are being separated; more than none if nobody can say."""
    answer = client.ask("GET", "/apiv1/queue")
    return answer.told["total"] + len(answer.told["running"]) if answer.ok else 1


def _is_whole(client: Client, job_id: str) -> bool:
    """Tell whether a job is done and its stems can be had."""
    job = client.ask("GET", f"/apiv1/jobs/{job_id}")
    if not job.ok or job.told["status"] != "done":
        return False
    return all(client.ask("GET", stem["url"]).ok for stem in job.told["stems"].values())


def _said(answer: Answer) -> str:
    return f"{answer.status} {answer.told['code']}" if answer.told and not answer.ok else f"{answer.status}"


if __name__ == "__main__":
    main()
