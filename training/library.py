"""Keeps rendered stems on disk and cuts training batches out of them.

Owns the song library: one `<seed>.npy` of int16 (4, 2, time) per song, memory-mapped, so that two
training processes share one copy in the page cache. `train` draws batches from it.
    python -m training.library FOLDER --first-seed 1000 --count 175 --seconds 20
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.mix import SAMPLE_RATE, SOURCES
from training.palette import PALETTES
from training.render import make_stems

#: Seeds below this belong to training; evaluation and the bundled songs use seeds above it.
FIRST_UNSEEN_SEED = 1_000_000


@dataclass(frozen=True)
class Augmentation:
    """How crops are varied; shares are probabilities."""

    #: share of crops whose four stems come from four different songs
    remix_share: float = 0.5
    gain_db: tuple[float, float] = (-4.0, 4.0)
    mute_share: float = 0.05
    swap_share: float = 0.5
    invert_share: float = 0.5


class Library:
    """All songs of a folder, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.songs = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))]
        if not self.songs:
            raise FileNotFoundError(f"no songs in {folder}: run python -m training.library first")

    def _crop(self, rng: np.random.Generator, sources: Sequence[int], length: int) -> NDArray[np.float32]:
        """Cut the given stems from one random place of one random song: (len(sources), 2, length)."""
        song = self.songs[rng.integers(len(self.songs))]
        start = rng.integers(song.shape[2] - length)
        crop: NDArray[np.float32] = song[list(sources), :, start : start + length].astype(np.float32)
        return crop / np.float32(32768)

    def batch(self, rng: np.random.Generator, *, size: int, seconds: float, augmentation: Augmentation) -> torch.Tensor:
        """Return true stems, float32 (size, 4, 2, time); their sum over dim 1 is the input."""
        length = int(seconds * SAMPLE_RATE)
        everything = range(len(SOURCES))
        crops = []
        for _ in range(size):
            if rng.random() < augmentation.remix_share:
                stems = np.concatenate([self._crop(rng, [source], length) for source in everything])
            else:
                stems = self._crop(rng, everything, length)
            count = len(SOURCES)
            gain = 10 ** (rng.uniform(*augmentation.gain_db, size=count) / 20)
            gain *= np.where(rng.random(count) < augmentation.invert_share, -1.0, 1.0)
            gain *= rng.random(count) >= augmentation.mute_share
            if rng.random() < augmentation.swap_share:
                stems = stems[:, ::-1]
            crops.append(stems * gain[:, None, None].astype(np.float32))
        return torch.from_numpy(np.stack(crops))


def main() -> None:
    """Render songs of consecutive seeds into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--palette", choices=sorted(PALETTES), default="known")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(options.first_seed, options.first_seed + options.count):
        stems = make_stems(seed, options.seconds, PALETTES[options.palette])
        # a single stem may peak above the mixture it is part of
        pcm = np.round(np.clip(stems, -1.0, 1.0) * 32767).astype(np.int16)
        np.save(options.folder / f"{seed}.npy", pcm)


if __name__ == "__main__":
    main()
