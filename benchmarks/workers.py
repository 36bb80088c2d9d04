"""Measures what more workers on one machine bring: songs a minute through the whole service, and memory.

    python -m benchmarks.workers     (part of `make bench-service`)

Every row is a service of its own, which separates the same songs with another number of workers and of threads. In the
rows *bound*, OpenVINO binds its threads to processors, as it does unless it is told not to; for comparison only, the
product does not. `report` makes the table.
"""

import argparse
import io
import os
import tempfile
import time
import wave
from contextlib import ExitStack
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import requests

from benchmarks import report, tables
from benchmarks.machine import processor
from benchmarks.measure import others_cpu_seconds
from benchmarks.models import DEMO, FULL, BenchModel, prepare
from benchmarks.processes import Service, wait_until
from benchmarks.scratch import CONVERTED
from benchmarks.songs import second_of_noise
from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.local.demo import decode

#: Workers, threads of each, and whether OpenVINO binds them. What is compared with each other stands side by side.
RUNS: Final = (
    *((1, 1, False), (2, 1, False), (1, 2, False), (2, 2, False), (4, 1, False), (4, 2, False)),
    *((1, 1, True), (2, 1, True), (1, 2, True)),
)
QUICK_RUNS: Final = ((1, 1, False), (2, 1, True))
#: As many as the most workers of a row: so all workers of a row have the same work.
SONGS: Final = 4
#: Two windows of `htdemucs`.
SONG_SECONDS: Final = 11.0
_SONGS_SECONDS: Final = 1800

#: Runs at the start of every Python whose path has it: in the separating child it binds what OpenVINO computes with.
_BIND: Final = """\
import sys
if "unmix_worker.child" in sys.orig_argv:
    sys.modules["openvino_telemetry"] = None
    import openvino
    unbound = openvino.Core.compile_model
    def bound(core, model, device, hints):
        return unbound(core, model, device, hints | {"ENABLE_CPU_PINNING": True})
    openvino.Core.compile_model = bound
"""


def main() -> None:
    """Measure every row, print the table, and add it to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rows with the demo model: no figures to keep")
    parser.add_argument("--output", type=Path, help="folder for JSON and page in place of the project's")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="unmix-bench-") as folder:
        (model,) = prepare(Path(folder) / "models", [DEMO if arguments.quick else FULL])
        songs = [_song(number) for number in range(SONGS)]
        rows = []
        for number, (workers, threads, bound) in enumerate(QUICK_RUNS if arguments.quick else RUNS):
            rows.append(measured(Path(folder) / str(number), model, songs, workers, threads, bound=bound))
            print(f"{workers} × {threads}{' bound' if bound else ''}: {rows[-1]['songs_s']:.1f} s", flush=True)
    record = {
        "model": model.description,
        "songs": SONGS,
        "song_s": SONG_SECONDS,
        "rows": rows,
        "took_minutes": round((time.monotonic() - started) / 60, 1),
    }
    published = report.publish("workers", "python -m benchmarks.workers", record, arguments.output)
    print(f"{processor(published['machine'])}, {published['machine']['threads']} processors\n{tables.workers(record)}")


def measured(
    folder: Path, model: BenchModel, songs: list[bytes], workers: int, threads: int, *, bound: bool
) -> dict[str, Any]:
    """Return how long a new service with these workers takes over `songs`, and the memory of each separating child."""
    settings = {
        "UNMIX_STORE_URL": f"file://{folder / 'store'}",
        "UNMIX_MODEL": model.name,
        "UNMIX_MODEL_DIR": model.model_dir,
        "UNMIX_CACHE_DIR": str(CONVERTED),
    }
    with Service(folder, settings) as service, service.rest() as url, service.janitor(), ExitStack() as running:
        settings = {"UNMIX_THREADS": str(threads)} | (_binding(folder) if bound else {})
        pids = [running.enter_context(service.worker(number, **settings)) for number in range(workers)]
        separate(url, [second_of_noise(number) for number in range(workers)])  # the first song pays for buffers
        others_s, started = others_cpu_seconds(os.getpid()), time.perf_counter()
        separate(url, songs)
        songs_s = time.perf_counter() - started
        others_s = others_cpu_seconds(os.getpid()) - others_s
        memory = [psutil.Process(pid).children()[0].memory_full_info().pss for pid in pids]
    return {
        "workers": workers,
        "threads": threads,
        "bound": bound,
        "songs_s": round(songs_s, 2),
        "others_cpu_s": round(others_s, 2),
        "child_pss_mb": [round(pss / 1e6) for pss in memory],
    }


def separate(url: str, songs: list[bytes]) -> None:
    """Send all songs, and return when the last one is done."""
    with requests.Session() as session:

        def is_over(job_id: str) -> bool:
            status = session.get(f"{url}/apiv1/jobs/{job_id}", timeout=60).json()["status"]
            if status in ("failed", "cancelled"):
                raise RuntimeError(f"a song is {status}")
            return bool(status == "done")

        waiting = []
        for song in songs:
            answer = session.post(f"{url}/apiv1/separate", files={"file": song}, timeout=60)
            answer.raise_for_status()
            waiting.append(answer.json()["hash"])
        for job_id in waiting:
            wait_until(partial(is_over, job_id), "a song is done", limit_seconds=_SONGS_SECONDS)


def _song(number: int) -> bytes:
    """Return `SONG_SECONDS` of the bundled song as WAV, from another place on for each number."""
    song = decode(Path(str(resources.files("unmix.local") / "demo_song" / "demo-song.mp3")))
    samples: Samples = np.roll(song, -number * SAMPLE_RATE, axis=1)[:, : int(SONG_SECONDS * SAMPLE_RATE)]
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((2, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((samples.T * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes())
    return buffer.getvalue()


def _binding(folder: Path) -> dict[str, str]:
    """Return the variables with which a separating child binds its threads."""
    path = folder / "binding"
    path.mkdir()
    (path / "sitecustomize.py").write_text(_BIND)
    return {"PYTHONPATH": os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])])}


if __name__ == "__main__":
    main()
