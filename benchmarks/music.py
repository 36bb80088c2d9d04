"""Measures how often key, tempo and beats are right, on songs whose score is known, and what listening costs.

    python -m benchmarks.music      # needs fluidsynth

The songs are those of `training`, of seeds that nobody chose. All are heard by their true stems and as if the song was
the only stem, some also by the stems that the demo model makes of it.
"""

import argparse
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.models import DEMO, FULL, prepare
from benchmarks.quality import FAMILY, song_files
from benchmarks.scratch import CONVERTED
from benchmarks.songs import looped_song
from benchmarks.tables import Record
from training.evaluate import SONG_SECONDS, first_seed
from training.mix import SAMPLE_RATE, SOURCES
from training.songs import lay_out
from unmix.audio.ear import Ear, Heard
from unmix.audio.music import Music, music_of
from unmix.engine.models import load_model
from unmix.engine.separator import Separator

Pcm = NDArray[np.int16]

#: A beat is found if one is told so near to it, as is usual where beats are judged.
_NEAR_SECONDS: Final = 0.07
#: The song of which it is measured what separating it takes.
_SEPARATED_SECONDS: Final = 20.0
#: Of a score's title, by the key that is told of it: modes that are neither are what their third says.
_TOLD_AS: Final = {"major": "major", "mixolydian": "major", "minor": "minor", "dorian": "minor"}
_SPELT: Final = {("Db", "minor"): "C#", ("Gb", "major"): "F#", ("Gb", "minor"): "F#", ("Ab", "minor"): "G#"}


def main() -> None:
    """Measure, and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=100)
    parser.add_argument("--separated", type=int, default=20, help="of them; 0: what separating takes is not measured")
    parser.add_argument("--output", type=Path, help="folder for JSON and page, instead of benchmarks/results and docs")
    options = parser.parse_args()
    started = time.monotonic()
    paths = song_files(options.songs)
    rows: dict[str, list[Record]] = {name: [] for name in ("true stems", "without drums", "the song as one stem")}
    listening_s = 0.0
    for number, path in enumerate(paths):
        sources: Pcm = np.load(path)  # (4, 2, time)
        began = time.process_time()
        stems = dict(zip(SOURCES, map(_heard, sources), strict=True))
        music = music_of(stems)
        listening_s += time.process_time() - began
        song = sources.sum(0, dtype=np.int32).clip(-32768, 32767).astype(np.int16)
        tuned = {stem: heard for stem, heard in stems.items() if stem != "drums"}
        for row, told in zip(rows.values(), (music, music_of(tuned), music_of({"song": _heard(song)})), strict=True):
            row.append(_judged(number, told))
    separating: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="unmix-benchmarks-") as folder:
        if options.separated:
            separated = (_separated(path, Path(folder)) for path in paths[: options.separated])
            rows["stems of the demo model"] = [_judged(number, music) for number, music in enumerate(separated)]
            separating = _separating(Path(folder) / "models")
    measured = {
        "songs": options.songs,
        "song_s": SONG_SECONDS,
        "rows": rows,
        "listening_cpu_s_a_minute": listening_s / (options.songs * SONG_SECONDS) * 60,
        "separating_cpu_s_a_minute": separating,
        "took_minutes": round((time.monotonic() - started) / 60, 1),
    }
    report.publish(
        "music",
        f"python -m benchmarks.music --songs {options.songs} --separated {options.separated}",
        measured,
        options.output,
    )


def _heard(pcm: Pcm) -> Heard:
    ear = Ear()
    for first in range(0, pcm.shape[1], 1 << 16):
        ear.add(pcm[:, first : first + (1 << 16)])
    return ear.heard()


def _separated(path: Path, folder: Path) -> Music:
    """Tell the music of a song by stems that the demo model makes of it."""
    separator = Separator(load_model(DEMO), cache_dir=CONVERTED)
    song = folder / "song.wav"
    soundfile.write(song, (np.load(path).astype(np.float32) / 32768).sum(0).T, SAMPLE_RATE, subtype="FLOAT")
    return music_of(separator.separate_file(song, folder, format="flac").heard)


def _separating(folder: Path) -> dict[str, float]:
    """Return how many seconds of a processor a minute of song takes, from mp3 to mp3, with each model."""
    song = looped_song(_SEPARATED_SECONDS)
    taken = {}
    for model in prepare(folder, [DEMO, FULL]):
        loaded = load_model(model.name, model_dir=Path(model.model_dir))
        separator = Separator(loaded, cache_dir=CONVERTED)
        separator.separate_file(looped_song(1.0), folder / "stems")  # the first one is slower
        began = time.process_time()
        separator.separate_file(song, folder / "stems")
        taken[model.name] = (time.process_time() - began) / _SEPARATED_SECONDS * 60
    return taken


def _judged(number: int, told: Music) -> Record:
    """Compare what was told of a song with its score."""
    bars, title = lay_out(Random(first_seed(FAMILY) + number), SONG_SECONDS)
    name, mode = title.split(",")[0].split()
    third = _TOLD_AS[mode]
    return {
        "key": f"{_SPELT.get((name, third), name)} {third}",
        "mode": mode,
        "tempo_bpm": round(60 / bars[0].beat_seconds, 2),
        "told": {
            "key": told.key,
            "key_confidence": told.key_confidence,
            "tempo_bpm": told.tempo_bpm,
            "tempo_confidence": told.tempo_confidence,
        },
        "beats": _beats_found([bar.at(step) for bar in bars[:-1] for step in (0, 4, 8, 12)], told.beats),
    }


def _beats_found(true: list[float], told: tuple[float, ...]) -> float:
    """Return the F-measure of beats."""
    if not told:
        return 0.0
    away = np.abs(np.array(true)[:, None] - np.array(told))
    found, right = (away.min(1) < _NEAR_SECONDS).mean(), (away.min(0) < _NEAR_SECONDS).mean()
    return round(float(2 * found * right / max(found + right, 1e-9)), 3)


if __name__ == "__main__":
    main()
