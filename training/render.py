"""Plays a score: fluidsynth and the soundfont for three stems, `voice` for the fourth.

Owns the way from a `Song` to its true stems. The sum of the stems is the song by construction.
    python -m training.render SEED SECONDS FOLDER    writes the mixture and stems as FLAC
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from training.midi import midi_file
from training.mix import SAMPLE_RATE, SOURCES, mix_stems
from training.palette import PALETTES, VOICES, Palette
from training.score import Part, Song
from training.songs import compose
from training.voice import sing

Samples = NDArray[np.float32]

#: Where Debian's package fluid-soundfont-gm puts FluidR3 (Frank Wen, MIT licence).
SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")


def play(parts: Sequence[Part], sample_count: int) -> Samples:
    """Render parts with fluidsynth, dry: float32 (2, time)."""
    with tempfile.TemporaryDirectory() as folder:
        score, sound = Path(folder, "score.mid"), Path(folder, "sound.raw")
        score.write_bytes(midi_file(parts))
        # fmt: off
        command = [
            "fluidsynth", "-niq", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(SAMPLE_RATE),
            "-o", "synth.dynamic-sample-loading=1", "-T", "raw", "-O", "float",
            "-F", str(sound), str(SOUNDFONT), str(score),
        ]
        # fmt: on
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stereo = np.fromfile(sound, dtype="<f4").reshape(-1, 2).T[:, :sample_count]
    return np.pad(stereo, ((0, 0), (0, sample_count - stereo.shape[1])))


def sing_song(song: Song, sample_count: int, rng: np.random.Generator) -> Samples:
    """Render the singer and the harmony singers: float32 (2, time), lead in the centre."""
    base = VOICES[song.voice]
    voice = replace(
        base,
        tract_scale=base.tract_scale * rng.uniform(0.975, 1.025),
        tilt_db=base.tilt_db + rng.normal(0.0, 0.7),
        vibrato_hz=base.vibrato_hz * rng.uniform(0.94, 1.06),
    )
    lead = sing(song.lead, voice, sample_count=sample_count, rng=rng)
    stereo = np.stack([lead, lead])
    if song.harmony:
        harmony = sing(song.harmony, voice, sample_count=sample_count, rng=rng)
        side = rng.choice((-0.4, 0.4))
        stereo += np.stack([(1 - side) * harmony, (1 + side) * harmony])
    return stereo


def render(song: Song) -> Samples:
    """Return the song's true stems: float32 (4, 2, time) in `SOURCES` order at 44.1 kHz."""
    rng = np.random.default_rng(song.seed)
    sample_count = round(song.duration_seconds * SAMPLE_RATE)
    raw = {
        "drums": play([song.drums], sample_count),
        "bass": play([song.bass], sample_count),
        "other": play(song.other, sample_count),
        "vocals": sing_song(song, sample_count, rng),
    }
    return mix_stems(raw, rng)


def make_stems(seed: int, duration_seconds: float, palette: Palette) -> Samples:
    """Compose and render in one go: float32 (4, 2, time)."""
    return render(compose(seed, duration_seconds, palette))


def main() -> None:
    """Write one song of the known players for a listener."""
    seed, seconds, folder = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    stems = make_stems(seed, seconds, PALETTES["known"])
    for name, audio in [("mixture", stems.sum(axis=0)), *zip(SOURCES, stems, strict=True)]:
        soundfile.write(folder / f"{name}.flac", audio.T, SAMPLE_RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
