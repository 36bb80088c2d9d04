"""Jobs of the past: fills a store with finished jobs, a million objects in minutes, and with jobs that are owed.

Documents and names are the product's own, and the objects go through a store's own methods, so that what lies there is
what the service of this checkout would have left. Only the disk is not waited for. Songs and stems are a few bytes:
nobody separates them.
"""

import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Protocol
from unittest.mock import patch

from unmix import names
from unmix.job import JobRequest, JobStatus, SeparationOptions
from unmix.ledger.ledger import Ledger, utc_now
from unmix.outcome import Outcome, Ran, StemFile
from unmix.queue.job_list import JobList
from unmix.store.file import FileStore

MODEL: Final = "demo"
#: Where files lie in memory, if anywhere.
MEMORY: Final = Path("/dev/shm")
_FILLERS: Final = 2
_PART: Final = 1000  # jobs that one process makes at once
_WEIGHTS: Final = "ab" * 32
#: When the first job was submitted; the others followed, one a second.
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)
#: What a job takes at least of a folder in memory: pages and inodes.
_BYTES_PER_JOB: Final = 60_000
_FILES_PER_JOB: Final = 20


class Writable(Protocol):
    """What is needed of a store here."""

    def put(self, name: names.ObjectName, data: bytes) -> None:
        """Put a small object whole."""

    def copy(self, source: names.ObjectName, target: names.ObjectName) -> None:
        """Give `target` the bytes of `source`."""


def file_store(root: Path) -> FileStore:
    """Return the file store in `root`, with its buckets."""
    store = FileStore(root)
    store.prepare()
    return store


def song(number: int) -> bytes:
    """Return the bytes of a song of the past, another one for each number."""
    return f"song {number} of the past".encode()


def job_id(number: int) -> str:
    """Return the id of the job that has separated `song(number)`."""
    return names.hash_song(song(number))


def request(number: int) -> JobRequest:
    """Return the request of that job; every other one is of an even song."""
    parity = ("even", "odd")[number % 2]
    return JobRequest(
        job_id(number),
        SeparationOptions(MODEL, weights_sha256=_WEIGHTS),
        (_BEGIN + timedelta(seconds=number)).isoformat(timespec="milliseconds"),
        generation=f"{number:016x}",
        duration_seconds=180.0,
        name=f"Song {number}, {parity}",
        labels=(parity,),
    )


def roomy_folder(jobs: int) -> Path:
    """Return a folder in memory if there is room for a file store of so many jobs, else that of temporary files."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        room = os.statvfs(MEMORY)
        if room.f_bavail * room.f_frsize > jobs * _BYTES_PER_JOB and room.f_favail > jobs * _FILES_PER_JOB:
            return MEMORY
    return Path(tempfile.gettempdir())


def fill(root: Path, jobs: int) -> None:
    """Put `jobs` finished jobs, numbered from 0, into a file store in `root`."""
    file_store(root)
    parts = [range(first, min(first + _PART, jobs)) for first in range(0, jobs, _PART)]
    with ProcessPoolExecutor(_FILLERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_fill, root), parts))


def put_finished(store: Writable, number: int) -> None:
    """Put all that a job leaves behind that was separated, published and has no callbacks."""
    asked, token = request(number), f"{number:016x}"
    id = asked.job_id
    store.put(names.song_object(asked.song_hash), song(number))
    store.put(names.request_object(id), asked.to_json())
    stems = {}
    for stem in names.CONTRACT_STEMS:
        name, data = names.attempt_object(id, token, stem, "mp3"), f"{stem} of {number}".encode()
        store.put(name, data)
        stems[stem] = StemFile(name.key, len(data), sha256(data).hexdigest())
    outcome = Outcome(
        id,
        asked.generation,
        JobStatus.DONE,
        utc_now(),
        token=token,
        attempt=1,
        worker="worker-1",
        stems=stems,
        ran=Ran(MODEL, _WEIGHTS, "cpu", 44_100, 180.0, 20.0),
    )
    store.put(names.outcome_object(id), outcome.to_json())
    for stem, file in stems.items():
        store.copy(names.ObjectName(names.OUTPUT_BUCKET, file.key), names.stem_object(id, stem, outcome.format))


def note(job_list: JobList, jobs: int) -> None:
    """Put `jobs` finished jobs, numbered from 0, on the list of jobs, as a janitor's audit would."""
    for number in range(jobs):
        asked = request(number)
        job_list.note(asked, Outcome(asked.job_id, asked.generation, JobStatus.DONE, asked.submitted_at))


def owe(root: Path, numbers: range) -> None:
    """Add jobs that were accepted and wait to be separated to the file store in `root`."""
    store = file_store(root)
    ledger = Ledger(store)
    with patch("os.fsync", lambda _: None):
        for number in numbers:
            store.put(names.song_object(job_id(number)), song(number))
            ledger.accept(JobRequest(job_id(number), SeparationOptions(MODEL), utc_now()))


def _fill(root: Path, numbers: range) -> None:
    store = file_store(root)
    with patch("os.fsync", lambda _: None):
        for number in numbers:
            put_finished(store, number)
