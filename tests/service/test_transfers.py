"""The transfers of `k8s/e2e-kind.sh` before a real REST: what is whole, and what is told of one that dies."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rest_process import RestProcess, finish
from support import eventually

ROOT = Path(__file__).parents[2]


def separate(rest: RestProcess) -> None:
    """End the first job as a worker would, with a stem that does not fit into the buffers on its way."""
    eventually(lambda: rest.queue.views.waiting(limit=1)[1] == 1, "the song is there whose stem is downloaded")
    (entry,) = rest.queue.views.waiting(limit=1)[0]
    finish(rest, entry, bytes(12 << 20), "wav")


def transfers(rest: RestProcess, record: Path) -> subprocess.Popen[str]:
    script = ROOT / "k8s" / "e2e" / "transfers.py"
    command = [sys.executable, str(script), rest.url, str(record), "--seconds", "0.5"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said_at_the_end(process: subprocess.Popen[str]) -> dict[str, dict[str, int]]:
    """Ask it to end, and return how many transfers of each kind ended how."""
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate()
    lines = [line.partition(": ") for line in said.splitlines() if ": " in line]
    return {
        kind: {end: int(count) for count, end in (pair.split() for pair in ends.split(", "))} for kind, _, ends in lines
    }


def test_transfers_are_whole_and_songs_are_noted(start: Callable[..., RestProcess], tmp_path: Path) -> None:
    rest, record = start(), tmp_path / "record"
    with transfers(rest, record) as process:
        separate(rest)
        eventually(lambda: record.exists() and len(record.read_text().split()) > 2, "songs were sent")
        ended = said_at_the_end(process)
    assert process.returncode == 0
    assert ended.keys() == {"upload", "download", "events", "request"}
    for ends in ended.values():
        assert ends["whole"] > 0
        assert (ends["cut"], ends["hung"], ends["refused"]) == (0, 0, 0)
    assert len(record.read_text().split()) == ended["upload"]["whole"]


def test_what_a_server_that_dies_cuts_is_told(start: Callable[..., RestProcess], tmp_path: Path) -> None:
    rest, record = start(), tmp_path / "record"
    with transfers(rest, record) as process:
        separate(rest)
        eventually(record.exists, "a song was sent")
        rest.process.kill()
        assert process.stderr is not None
        process.stderr.readline()
        ended = said_at_the_end(process)
    assert process.returncode == 1
    assert sum(ends["cut"] for ends in ended.values()) > 0
