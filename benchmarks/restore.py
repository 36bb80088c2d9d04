"""The drill of a restore at full size: a service's folder is copied, and the copy brought into an S3 server.

    .venv/bin/python -m benchmarks.restore [--jobs 1000] [--stem-kb 250]

Of ten jobs six are done, one is done and owes a callback, one has failed, two are owed. Redis is empty, the janitor has
its default settings, and the clock runs from the begin of `unmix import` until everything is as it was: what is owed
waits, what failed is listed, what has to be called back is due, all jobs are on the list, all stems in the store.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final
from unittest.mock import patch

from benchmarks import past
from benchmarks.filled_s3 import ACCESS_KEY, SECRET_KEY, filled_s3
from benchmarks.processes import Service, wait_until
from unmix import names
from unmix.job import Callback, JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome, Ran, StemFile
from unmix.queue.job_queue import JobQueue
from unmix.store.file import FileStore

TARGET_SECONDS: Final = 300
_PATIENCE_SECONDS: Final = 900
#: A host that there never is: its delivery stays owed.
_CALLBACK: Final = Callback("http://nobody.invalid/")


def main() -> int:
    """Run the drill, and tell how many jobs were lost and how long it took; 1 if that is not what is aimed at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--stem-kb", type=int, default=250, help="size of each song, and of each of four stems")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unmix-bench-") as parent:
        folder = Path(parent)
        original = fill(folder / "store", options.jobs, 1000 * options.stem_kb)
        began = time.monotonic()
        _unmix("export", folder / "backup", {"UNMIX_STORE_URL": f"file://{original.root}"})
        print(f"copied out of a folder into another in {time.monotonic() - began:.0f} s", flush=True)
        with filled_s3(folder, 0) as (endpoint, there):
            store = {
                "UNMIX_STORE_URL": f"s3+http://{endpoint}",
                "UNMIX_STORE_ACCESS_KEY": ACCESS_KEY,
                "UNMIX_STORE_SECRET_KEY": SECRET_KEY,
            }
            with Service(folder / "service", store) as service, service.queue() as queue:
                began = time.monotonic()
                _unmix("import", folder / "backup", store)
                imported_s = time.monotonic() - began
                with service.janitor():
                    wait_until(
                        lambda: _is_as_it_was(queue, options.jobs),
                        "all is as it was",
                        limit_seconds=_PATIENCE_SECONDS,
                    )
                took_s = time.monotonic() - began
            ledger, restored = Ledger(original), Ledger(there)
            job_ids = [job_id for stored in ledger.inventory.songs() for job_id in stored.jobs]
            lost = options.jobs - sum(_is_there(ledger, restored, job_id) for job_id in job_ids)
            began = time.monotonic()
            _unmix("export", folder / "back", store)
            print(f"and out of the S3 server into a folder in {time.monotonic() - began:.0f} s")
    print(
        f"{options.jobs:,} jobs: {lost} lost, {took_s:.0f} s (target: {TARGET_SECONDS} s), "
        f"of which the copy into the S3 server took {imported_s:.0f} s and the janitor the rest"
    )
    return int(lost > 0 or took_s > TARGET_SECONDS)


def fill(root: Path, jobs: int, size_bytes: int) -> FileStore:
    """Make a store with so many jobs in a folder; each song and each stem has `size_bytes`."""
    store = past.file_store(root)
    ledger = Ledger(store)
    with patch("os.fsync", lambda _: None):
        for number in range(jobs):
            _put_job(store, ledger, number, size_bytes)
    return store


def _put_job(store: FileStore, ledger: Ledger, number: int, size_bytes: int) -> None:
    song = past.song(number).ljust(size_bytes)
    song_hash = names.hash_song(song)
    store.put(names.song_object(song_hash), song)
    callbacks = (_CALLBACK,) if number % 10 == 6 else ()
    submitted_at = past.request(number).submitted_at
    request, _ = ledger.accept(JobRequest(song_hash, SeparationOptions(past.MODEL), submitted_at, callbacks=callbacks))
    outcome = Outcome(song_hash, request.generation, JobStatus.FAILED, utc_now(), error_code="poison")
    if number % 10 == 7:
        ledger.commit(outcome)
    elif number % 10 < 7:
        stems = {}
        for stem in names.CONTRACT_STEMS:
            name, data = names.attempt_object(song_hash, "t1", stem, "mp3"), os.urandom(size_bytes)
            store.put(name, data)
            stems[stem] = StemFile(name.key, len(data), sha256(data).hexdigest())
        ran = Ran(past.MODEL, "aa", "cpu", 44_100, 180.0, 20.0)
        done = replace(outcome, status=JobStatus.DONE, error_code=None, token="t1", stems=stems, ran=ran)
        ledger.publish(ledger.commit(done))


def _unmix(command: str, folder: Path, store: dict[str, str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNMIX_")} | store
    subprocess.run([sys.executable, "-m", "unmix.cli", command, str(folder)], env=environment, check=True)


def _is_as_it_was(queue: JobQueue, jobs: int) -> bool:
    tens, rest = divmod(jobs, 10)
    of_last = range(rest)
    counts, (_, failed) = queue.views.counts(), queue.views.failed(limit=1)
    return (
        counts.waiting == 2 * tens + sum(number > 7 for number in of_last)
        and failed == tens + (7 in of_last)
        and counts.outbox == tens + (6 in of_last)
        and len(queue.job_list.members()) == jobs
    )


def _is_there(original: Ledger, restored: Ledger, job_id: str) -> bool:
    """Tell whether a job is as it was, and its song and stems are there."""
    request, outcome = restored.end(job_id)
    return (
        request is not None
        and (request, outcome) == original.end(job_id)
        and restored.has_song(request.song_hash)
        and (outcome is None or all(map(restored.has_stem, outcome.stems.values())))
    )


if __name__ == "__main__":
    sys.exit(main())
