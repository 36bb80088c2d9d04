"""What speed costs in quality: SDR of the demo model in every mode, on synthetic songs that it was not trained on.

    python -m benchmarks.quality --songs 20     (`make bench-quality`)

The songs are those that `training.evaluate` judges by, so fluidsynth and its sound font are needed once; rendered songs
are kept. Every variant separates every song. `report` makes the table.
"""

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import torch
from demucs.apply import apply_model
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.models import DEMO
from benchmarks.scratch import CONVERTED, SONGS
from training.evaluate import SONG_SECONDS, family_songs
from training.mix import SAMPLE_RATE, SOURCES
from training.render import SOUNDFONT
from unmix.engine.models import load_model
from unmix.engine.sdr import sdr_db
from unmix.engine.separator import Separator
from unmix.local.demo import decode

#: Songs with the players and singers of the training songs: what the model can do at its best.
FAMILY: Final = "known"

Stems = NDArray[np.float32]
#: Separates a song, as file and as number, into (stems, 2, time).
Variant = Callable[[Path, int], Stems]


def main() -> None:
    """Measure every variant on the songs and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=20)
    parser.add_argument("--output", type=Path, help="folder for JSON and page, instead of benchmarks/results and docs")
    options = parser.parse_args()
    started = time.monotonic()
    songs = song_files(options.songs)
    with tempfile.TemporaryDirectory(prefix="unmix-benchmarks-") as folder:
        variants = _variants(Path(folder))
        sdrs_db: dict[str, list[list[float]]] = {name: [] for name in variants}
        for number, path in enumerate(songs):
            sources = np.load(path).astype(np.float32) / 32768  # (4, 2, time)
            song = Path(folder) / "song.wav"
            soundfile.write(song, sources.sum(0).T, SAMPLE_RATE, subtype="FLOAT")
            for name, separate in variants.items():
                stems = separate(song, number)
                sdrs_db[name].append([sdr_db(*pair) for pair in zip(sources, stems, strict=True)])
            print(f"song {number + 1} of {options.songs}", flush=True)
    measured = {
        "model": DEMO,
        "songs": options.songs,
        "song_s": SONG_SECONDS,
        "stems": SOURCES,
        "variants": [{"name": name, "sdr_db": sdrs} for name, sdrs in sdrs_db.items()],  # by song, by stem
        "took_minutes": round((time.monotonic() - started) / 60, 1),
    }
    report.publish("quality", f"python -m benchmarks.quality --songs {options.songs}", measured, options.output)


def song_files(count: int) -> list[Path]:
    """Return files of the true stems of the first `count` songs, int16 (4, 2, time); those not there are rendered."""
    folder = SONGS / f"{FAMILY}-{SONG_SECONDS:g}s"
    paths = [folder / f"{number}.npy" for number in range(count)]
    if not all(path.exists() for path in paths):
        if not (shutil.which("fluidsynth") and SOUNDFONT.exists()):
            raise SystemExit(
                f"the songs are played by fluidsynth from {SOUNDFONT}; "
                "on Debian: apt install fluidsynth fluid-soundfont-gm"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for path, stems in zip(paths, family_songs(FAMILY, count), strict=True):
            # A single stem may peak above the mixture that it is part of.
            np.save(path, np.round(stems.clip(-1, 1) * 32767).astype(np.int16))
    return paths


def _variants(folder: Path) -> dict[str, Variant]:
    """Return all variants by name; the first one is what the others are compared with."""
    torch.backends.mha.set_fastpath_enabled(False)
    model = load_model(DEMO)
    assert model.sources == SOURCES
    fast, exact = (
        Separator(load_model(DEMO), precision=precision, cache_dir=CONVERTED) for precision in ("fast", "exact")
    )

    def applied(*, overlap: float, shifts: int) -> Variant:
        def separate(song: Path, number: int) -> Stems:
            mixture = torch.from_numpy(decode(song))
            mono = mixture.mean(0)
            mean, std = mono.mean(), mono.std() + 1e-8
            random.seed(number)  # where demucs takes its shifts from
            with torch.no_grad():
                normalised = ((mixture - mean) / std)[None]
                estimates: Any = apply_model(model.module, normalised, shifts=shifts, overlap=overlap)
            stems: Stems = (estimates[0] * std + mean).numpy()
            return stems

        return separate

    def delivered(separator: Separator, **options: Any) -> Variant:
        def separate(song: Path, number: int) -> Stems:
            separation = separator.separate_file(song, folder, **options)
            return np.stack([decode(path) for path in separation.stems.values()])

        return separate

    return {
        "apply_model in float32": applied(overlap=0.25, shifts=0),
        "apply_model, overlap 0.1": applied(overlap=0.1, shifts=0),
        "apply_model, 1 shift": applied(overlap=0.25, shifts=1),
        "exact, wav": delivered(exact, format="wav"),
        "fast, wav": delivered(fast, format="wav"),
        "fast, wav, mixture consistency": delivered(fast, format="wav", mixture_consistency=True),
        "fast, mp3 at 128 kbit/s": delivered(fast, format="mp3", bitrate_kbps=128),
        "fast, mp3 at 192 kbit/s": delivered(fast, format="mp3", bitrate_kbps=192),
        "fast, mp3 at 256 kbit/s": delivered(fast, format="mp3", bitrate_kbps=256),
        "fast, mp3 at 320 kbit/s": delivered(fast, format="mp3", bitrate_kbps=320),
    }


if __name__ == "__main__":
    main()
