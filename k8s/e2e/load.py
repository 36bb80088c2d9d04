"""The clients of k8s/e2e-kind.sh: they send songs while the service is disturbed, and ask what became of them.

    load.py submit REST RECORD               sends a song every two seconds until SIGTERM; 1 if any was refused
    load.py busy REST RECORD --songs 5 --running 3
                                             sends long songs, and returns when so many of them run
    load.py check REST RECORD                waits for all that was accepted; 1 if any is not done

RECORD is a file that gets the id of each accepted job. Each request has a connection of its own, as those of many
clients have: none can hide behind one that was opened before.
"""

import argparse
import random
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import Final

from unmix.client import Client, Patience
from unmix.errors import UnmixError
from unmix.job import JobStatus
from unmix.runtime.shutdown import Shutdown

SAMPLE_RATE: Final = 8000  # Hz; a low one, so that long songs are small uploads
SONG_SECONDS: Final = 10
LONG_SONG_SECONDS: Final = 600
PAUSE_SECONDS: Final = 2.0  # between two songs of `submit`
POLL_SECONDS: Final = 0.5
#: These clients want to see each refusal.
IMPATIENT: Final = Patience(seconds=0)


def main() -> int:
    """Run one of the clients and return its exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=["submit", "busy", "check"])
    parser.add_argument("rest", help="URL of REST")
    parser.add_argument("record", type=Path, help="file of the ids of accepted jobs")
    parser.add_argument("--songs", type=int, default=1, help="how many long songs to send")
    parser.add_argument("--running", type=int, default=1, help="how many of them have to run")
    parser.add_argument("--wait-seconds", type=float, default=900, help="how long to wait for them, or for all jobs")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.wait_seconds
    if arguments.client == "submit":
        return submit_until_told(arguments.rest, arguments.record)
    if arguments.client == "busy":
        return keep_busy(arguments.rest, arguments.record, arguments.songs, arguments.running, deadline)
    return check(arguments.rest, arguments.record, deadline)


def submit_until_told(rest: str, record: Path) -> int:
    """Send one short song after the other until SIGTERM; 1 if one was refused."""
    told = Shutdown()
    told.listen()
    accepted = refused = 0
    while not told.requested:
        try:
            send(rest, record, SONG_SECONDS)
            accepted += 1
        except UnmixError as error:
            refused += 1
            print(f"refused at {time.strftime('%X')}: {error.message} ({error.code})", file=sys.stderr, flush=True)
        told.wait(PAUSE_SECONDS)
    print(f"{accepted} songs accepted, {refused} refused")
    return 1 if refused or not accepted else 0


def keep_busy(rest: str, record: Path, songs: int, running: int, deadline: float) -> int:
    """Send long songs and return 0 when `running` of them are being separated."""
    jobs = [send(rest, record, LONG_SONG_SECONDS) for _ in range(songs)]
    while time.monotonic() < deadline:
        statuses = [status_of(rest, job) for job in jobs]
        if statuses.count(JobStatus.RUNNING) >= running:
            return 0
        time.sleep(POLL_SECONDS)
    print(f"{running} of {songs} long songs never ran at the same time", file=sys.stderr)
    return 1


def check(rest: str, record: Path, deadline: float) -> int:
    """Wait until every accepted job is over; 0 only if all are done."""
    waiting = set(record.read_text().split())
    ended: dict[str, JobStatus] = {}
    while waiting and time.monotonic() < deadline:
        for job in sorted(waiting):
            status = status_of(rest, job)
            if status is not None and status.is_over:
                ended[job] = status
        waiting -= ended.keys()
        time.sleep(POLL_SECONDS)
    lost = waiting | {job for job, status in ended.items() if status is not JobStatus.DONE}
    for job in sorted(lost):
        print(f"lost: {job}: {ended.get(job, 'not over')}", file=sys.stderr)
    print(f"{len(ended) - len(lost - waiting)} songs done, {len(lost)} lost")
    return 1 if lost or not ended else 0


def send(rest: str, record: Path, seconds: int) -> str:
    """Send a song that nobody has sent before, note the id of its job in `record`, and return it."""
    second = random.randbytes(SAMPLE_RATE)
    with tempfile.NamedTemporaryFile(suffix=".wav") as file, Client(rest, patience=IMPATIENT) as client:
        with wave.open(file.name, "wb") as song:
            song.setnchannels(1)
            song.setsampwidth(1)
            song.setframerate(SAMPLE_RATE)
            song.writeframes(second * seconds)
        job = client.submit(Path(file.name), stems=["vocals"], format="mp3")
    with record.open("a") as lines:
        lines.write(f"{job}\n")
    return job


def status_of(rest: str, job: str) -> JobStatus | None:
    """Return how a job stands; None if REST does not say."""
    try:
        with Client(rest, patience=IMPATIENT) as client:
            return client.job(job).status
    except UnmixError:
        return None


if __name__ == "__main__":
    sys.exit(main())
