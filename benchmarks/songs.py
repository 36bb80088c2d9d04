"""The songs that are separated: the bundled demo song, looped to the wanted length and encoded once."""

from importlib import resources
from pathlib import Path

from benchmarks.scratch import SONGS
from unmix.audio.encode import StemWriter
from unmix.audio.formats import SAMPLE_RATE
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
