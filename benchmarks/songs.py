"""The songs that are separated: the bundled demo song, looped to the wanted length and encoded once, or noise."""

import io
import wave
from importlib import resources
from pathlib import Path

import numpy as np

from benchmarks.scratch import SONGS
from unmix.audio.encode import StemWriter
from unmix.audio.samples import SAMPLE_RATE
from unmix.local.demo import decode


def looped_song(seconds: float, *, format: str = "mp3") -> Path:
    """Return a song of this length; it is made only if it is not there yet."""
    song = SONGS / f"demo-song-{seconds:g}s.{format}"
    if not song.exists():
        SONGS.mkdir(parents=True, exist_ok=True)
        loop = decode(Path(str(resources.files("unmix.local") / "demo_song" / "demo-song.mp3")))
        part = song.with_suffix(".part")
        writer = StemWriter(part, format=format)
        total = round(seconds * SAMPLE_RATE)
        while writer.samples < total:
            writer.write(loop[:, : total - writer.samples])
        writer.close()
        part.replace(song)
    return song


def second_of_noise(number: int) -> bytes:
    """Return a second of noise as WAV, another one for each number."""
    return noise(number, 1.0)


def noise(number: int, seconds: float) -> bytes:
    """Return noise of this length as WAV, another one for each number."""
    samples = np.random.default_rng(number).integers(-3000, 3000, (round(seconds * SAMPLE_RATE), 2), dtype="<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((2, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()
