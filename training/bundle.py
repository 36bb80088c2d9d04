"""Writes the songs that the repository carries: the demo song and the tests' excerpts.

Owns file formats and seeds. True stems are 16-bit FLAC and the mixture is made from the rounded
stems, so the stems of an excerpt sum to its mixture to the last bit; the demo song itself is mp3,
because that is what people send, and equals that sum up to the codec.
    python -m training.bundle candidates WEIGHTS    lists unseen songs to choose the demo song from
    python -m training.bundle song src/unmix/local/demo_song
    python -m training.bundle excerpts tests/data/songs
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import soundfile
from demucs.hf import load_safetensors_model
from numpy.typing import NDArray

from training.metrics import sdr_db
from training.mix import SAMPLE_RATE, SOURCES
from training.model import separate
from training.palette import PALETTES
from training.render import make_stems
from training.songs import compose

#: Unseen by training (see `library.FIRST_UNSEEN_SEED`) and by `evaluate`.
FIRST_CANDIDATE, CANDIDATES = 3_000_000, 12
#: Chosen for a major key, harmony in the chorus, and figures near the candidates' mean.
DEMO_SEED = FIRST_CANDIDATE + 4
DEMO_SECONDS = 25.5
EXCERPT_SEEDS = (4_000_000, 4_000_001, 4_000_002)
#: Cut out of whole songs, so that an excerpt is as dense as the songs it stands for.
EXCERPT_SONG_SECONDS, EXCERPT_FROM, EXCERPT_TO = 30.0, 10.0, 16.5
#: The demo song's peak is about -1 dBFS; the quieter excerpts make smaller files.
DEMO_PEAK, EXCERPT_PEAK = 0.891, 0.5
#: The last chord of a song dies away over this time.
FADE_SECONDS = 1.0

Pcm = NDArray[np.int16]


def mastered(seed: int, seconds: float, *, peak: float) -> Pcm:
    """Render the stems of a song whose sum has this peak: int16 (4, 2, time) in `SOURCES` order."""
    stems = make_stems(seed, seconds, PALETTES["known"])
    fade = int(FADE_SECONDS * SAMPLE_RATE)
    stems[:, :, -fade:] *= np.cos(np.linspace(0.0, np.pi / 2, fade, dtype=np.float32)) ** 2
    stems *= peak / np.abs(stems.sum(axis=0)).max()
    return np.round(stems * 32767).astype(np.int16)


def write_flac(path: Path, audio: Pcm) -> None:
    """Write int16 (2, time) as small as FLAC can."""
    soundfile.write(path, audio.T, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)


def write_mp3(path: Path, song: Pcm, bit_rate: int = 192_000) -> None:
    """Encode int16 (2, time) with libmp3lame, whose Info tag keeps the decoded length exact."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE)
        stream.codec_context.layout = "stereo"
        stream.codec_context.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(song), format="s16p", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def read(path: Path) -> NDArray[np.float32]:
    """Decode with PyAV: float32 (2, time)."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SAMPLE_RATE)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        samples: NDArray[np.float32] = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
        return samples


def write_demo_song(folder: Path) -> None:
    """Write `demo-song.mp3` and its stems, and print how well the codec kept their sum."""
    folder.mkdir(parents=True, exist_ok=True)
    stems = mastered(DEMO_SEED, DEMO_SECONDS, peak=DEMO_PEAK)
    for source, stem in zip(SOURCES, stems, strict=True):
        write_flac(folder / f"demo-song-{source}.flac", stem)
    song = stems.sum(axis=0, dtype=np.int16)
    write_mp3(folder / "demo-song.mp3", song)
    decoded = read(folder / "demo-song.mp3")
    truth = song.astype(np.float32) / np.float32(32768)
    if decoded.shape != truth.shape:
        raise RuntimeError(f"the mp3 decodes to {decoded.shape}, not {truth.shape}")
    print(f"{compose(DEMO_SEED, DEMO_SECONDS, PALETTES['known']).title}")
    print(f"mp3 against the sum of stems: {sdr_db(truth[None], decoded[None])[0]:.1f} dB")


def write_excerpts(folder: Path) -> None:
    """Write one folder per excerpt: the mixture and its four true stems."""
    for seed in EXCERPT_SEEDS:
        stems = mastered(seed, EXCERPT_SONG_SECONDS, peak=EXCERPT_PEAK)
        stems = stems[:, :, int(EXCERPT_FROM * SAMPLE_RATE) : int(EXCERPT_TO * SAMPLE_RATE)]
        target = folder / f"song-{seed}"
        target.mkdir(parents=True, exist_ok=True)
        mixture = stems.sum(axis=0, dtype=np.int16)
        for name, audio in [("mixture", mixture), *zip(SOURCES, stems, strict=True)]:
            write_flac(target / f"{name}.flac", audio)


def list_candidates(weights: Path) -> None:
    """Print what each candidate is like and how well the model does on it."""
    model = load_safetensors_model(weights)
    model.eval()
    for seed in range(FIRST_CANDIDATE, FIRST_CANDIDATE + CANDIDATES):
        song = compose(seed, DEMO_SECONDS, PALETTES["known"])
        stems = mastered(seed, DEMO_SECONDS, peak=DEMO_PEAK).astype(np.float32) / np.float32(32768)
        figures = sdr_db(stems, separate(model, stems.sum(axis=0)))
        programs = [song.drums.program, song.bass.program, *(part.program for part in song.other)]
        sung_from = song.lead[0].start_seconds
        print(
            f"{seed} {song.title:22} {song.voice:14} programs {programs} sung from {sung_from:.1f} s"
            f" harmony {bool(song.harmony)} SDR {figures.round(1)} mean {figures.mean():.1f}",
            flush=True,
        )


def main() -> None:
    """Run the command named first on the path named second."""
    command = {"candidates": list_candidates, "song": write_demo_song, "excerpts": write_excerpts}
    command[sys.argv[1]](Path(sys.argv[2]))


if __name__ == "__main__":
    main()
