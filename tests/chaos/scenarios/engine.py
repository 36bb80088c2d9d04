"""The claim about the real engine: kills change no byte of any stem.

The whole service runs as a user runs it (`stack.Stack`), with the demo model.
"""

import io
import os
import signal
from contextlib import suppress
from importlib import resources
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from chaos.run import Run
from chaos.table import Claim, never
from stack import Stack
from support import RedisServer
from unmix.audio.formats import SAMPLE_RATE
from unmix.local.demo import decode

#: Long enough that a worker can be killed in the middle.
EXCERPT_SECONDS = 20
DEMO_SONG = Path(str(resources.files("unmix.local") / "demo_song" / "demo-song.mp3"))


def engine(run: Run) -> list[Claim]:
    """Separate excerpts of the demo song, once undisturbed and once under kills of workers and separating processes."""
    rng = run.rng("engine")
    count, kills = run.size(20, 3), run.size(40, 4)
    folder = run.folder / "engine"
    (folder / "redis").mkdir(parents=True)
    server = RedisServer(folder / "redis")
    server.start()
    stack = Stack(
        folder, server.url, UNMIX_MAX_CRASHES="100", UNMIX_MAX_LAPSES="100", UNMIX_CACHE_DIR=str(folder / "cache")
    )
    try:
        stack.start(workers=2)
        songs = excerpts(rng, count)
        undisturbed = separate_all(stack, songs)
        for job_id in undisturbed:
            stack.remove(job_id)
        for song in songs:
            stack.post(song, format="flac")
        struck = kill_while_working(stack, rng, kills)
        disturbed = separate_all(stack, songs)
    finally:
        stack.stop()
        server.kill()
    stems = [(job_id, stem) for job_id, sums in undisturbed.items() for stem in sums]
    differing = [(job_id, stem) for job_id, stem in stems if disturbed[job_id].get(stem) != undisturbed[job_id][stem]]
    return [
        never(
            f"stems of {count} songs, real engine, that {struck} kills changed in any byte",
            len(differing), len(stems), trials_met=struck >= kills,
        ),
    ]  # fmt: skip


def excerpts(rng: Random, count: int) -> list[bytes]:
    """Return WAV files of `EXCERPT_SECONDS` each, from random places of the demo song, which is looped."""
    mixture = decode(DEMO_SONG)
    samples = EXCERPT_SECONDS * SAMPLE_RATE
    looped = np.tile(mixture, 2 + samples // mixture.shape[1])
    songs = []
    for _ in range(count):
        start = rng.randrange(mixture.shape[1])
        buffer = io.BytesIO()
        soundfile.write(buffer, looped[:, start : start + samples].T, SAMPLE_RATE, format="WAV")
        songs.append(buffer.getvalue())
    return songs


def separate_all(stack: Stack, songs: list[bytes]) -> dict[str, dict[str, str]]:
    """Return the SHA-256 sum of every stem, by job and stem, once all are done."""
    job_ids = [stack.post(song, format="flac") for song in songs]
    sums = {}
    for job_id in job_ids:
        job = stack.wait_until_over(job_id, patience_seconds=300)
        assert job["status"] == "done", job
        sums[job_id] = {stem: file["sha256"] for stem, file in stack.outcome(job_id)["stems"].items()}
    return sums


def kill_while_working(stack: Stack, rng: Random, most: int) -> int:
    """Kill workers or their separating processes while anything is owed, at most so often; return how often."""
    for kills in range(most):
        stack.wait_for(lambda: stack.queue.counts().running > 0 or stack.queue.counts().open == 0, "something runs")
        if stack.queue.counts().open == 0:
            return kills
        worker = rng.choice(stack.living_workers())
        child = stack.child_of(worker)
        victim = child if child and rng.random() < 0.5 else worker.pid
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        if victim == worker.pid:
            worker.wait()
            stack.start_worker()
    return most
