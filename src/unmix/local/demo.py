"""The demo: one song through the whole service, over plain HTTP, and a look at what came back.

Behind `make demo`. It runs local mode in a folder of its own for as long as `sample-requests.py` needs, then decodes
the stems, checks their length against the song's, and compares them with the true stems where there are some.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from unmix.audio.samples import SAMPLE_RATE, Samples
from unmix.audio.song_reader import SongReader
from unmix.errors import InputError
from unmix.local.auto_model import resolve_model
from unmix.local.devices import check_device
from unmix.local.local import LocalPlan, free_port, interruptible, running
from unmix.local.supervisor import POLL_SECONDS
from unmix.settings import Settings

#: Longest wait for the service to be ready: htdemucs may have to be downloaded first.
READY_SECONDS: Final = 900.0

_BUNDLED_SONG: Final = Path(str(resources.files("unmix.local") / "demo_song" / "demo-song.mp3"))
_CLIENT: Final = Path(__file__).parents[3] / "sample-requests.py"


@dataclass(frozen=True, slots=True)
class StemReport:
    """What came back for one stem. The SDR is None where no true stem is known."""

    name: str
    file: Path
    samples: int
    sdr_db: float | None
    improvement_db: float | None  # over the mixture taken as the estimate


def run(settings: Settings, song: Path | None, *, model: str, output: Path) -> bool:
    """Separate `song`, or the bundled one, into `output`/<song>/; True if every stem came whole.

    Raises:
        UnmixError: the service could not be started, or the song is none.
    """
    if not _CLIENT.exists():
        raise InputError("the demo needs a checkout of Track-Unmix: sample-requests.py is not here", code="no_checkout")
    check_device(settings.device)
    song = song or _BUNDLED_SONG
    folder = output / song.stem
    mixture = decode(song)
    model, note = resolve_model(model)
    _say(f"separating {song.name} ({mixture.shape[1] / SAMPLE_RATE:.1f} s) with {model}")
    if note:
        _say(note)
    started_at = time.time()
    if not _send(settings, song, model=model, output=output):
        return False
    _say(f"took {time.time() - started_at:.0f} s, start and end of the service included")
    files = [file for file in sorted(folder.glob("*.mp3")) if file.stat().st_mtime >= started_at]
    reports = [report(file, song, mixture) for file in files]
    _say(f"{'stem':<8}{'samples':>10}{'SDR':>9}{'over the mixture':>18}  file")
    for stem in reports:
        _say(f"{stem.name:<8}{stem.samples:>10}{_db(stem.sdr_db):>9}{_db(stem.improvement_db):>18}  {stem.file}")
    wrong = [stem.name for stem in reports if stem.samples != mixture.shape[1]]
    if wrong or not reports:
        _say(f"not {mixture.shape[1]} samples long, as the song is: {', '.join(wrong)}" if wrong else "no stem came")
    return bool(reports) and not wrong


def decode(audio: Path) -> Samples:
    """Return a whole file as float32 (2 channels, time) at 44.1 kHz.

    Raises:
        AudioError: it cannot be decoded.
    """
    return np.concatenate(list(SongReader(audio)), axis=1)


def report(file: Path, song: Path, mixture: Samples) -> StemReport:
    """Measure one delivered stem; its true stem is looked for beside the song, as `<song>-<stem>.flac`."""
    from unmix.engine.sdr import sdr_db

    estimate = decode(file)
    true_stem = song.with_name(f"{song.stem}-{file.stem}.flac")
    if not true_stem.exists() or estimate.shape != mixture.shape:
        return StemReport(file.stem, file, estimate.shape[1], None, None)
    source = decode(true_stem)
    sdr = sdr_db(source, estimate)
    return StemReport(file.stem, file, estimate.shape[1], sdr, sdr - sdr_db(source, mixture))


def _send(settings: Settings, song: Path, *, model: str, output: Path) -> bool:
    """Run the service for as long as the client needs, and return whether the client succeeded."""
    with TemporaryDirectory(prefix="unmix-demo-") as data_dir:
        # It is nobody's service: it ends with the song.
        settings = settings.model_copy(update={"auth": "none", "host": "127.0.0.1"})
        plan = LocalPlan(data_dir=Path(data_dir), port=free_port(), workers=1, model=model)
        with interruptible(), running(settings, plan, say=_say) as stack:
            stack.wait_until_ready(limit_seconds=READY_SECONDS)
            command = [sys.executable, str(_CLIENT), str(song), "--wait", "--output", str(output)]
            # A proxy of the machine is not for what runs on it.
            environment = os.environ | {"REST": f"localhost:{plan.port}", "NO_PROXY": "localhost"}
            client = subprocess.Popen(command, env=environment)
            try:
                while (status := client.poll()) is None:
                    stack.check()
                    time.sleep(POLL_SECONDS)
            finally:
                client.terminate()
                client.wait()
            if status != 0:
                _say(stack.tails())
    return status == 0


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _say(message: str) -> None:
    print(message, flush=True)
