"""Judges weights on songs that training never saw, and prints the tables of the README.

Owns the protocol: whole songs of 30 s, plain model output, SDR per stem over each whole song,
then the mean over songs. Three families: new songs by known players ("known"), by held-out
instruments, by held-out singers. Nothing is picked: seeds run upwards from the first unseen one.
    python -m training.evaluate WEIGHTS --songs 8
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from demucs.apply import Model
from demucs.hf import load_safetensors_model
from numpy.typing import NDArray

from training.library import FIRST_UNSEEN_SEED
from training.metrics import routing, sdr_db
from training.mix import SAMPLE_RATE, SOURCES
from training.model import separate
from training.palette import PALETTES
from training.render import make_stems

SONG_SECONDS = 30.0


@dataclass(frozen=True)
class Figures:
    """Per-stem figures of one song, each float64 (4,) in `SOURCES` order."""

    mixture_db: NDArray[np.float64]
    model_db: NDArray[np.float64]
    routing: NDArray[np.float64]
    #: audio seconds separated per second
    speed: float


def judge(model: Model, stems: NDArray[np.float32]) -> Figures:
    """Separate one song from its true stems, float32 (4, 2, time), and each stem alone."""
    mixture = stems.sum(axis=0)
    began = time.perf_counter()
    estimate = separate(model, mixture)
    speed = mixture.shape[1] / SAMPLE_RATE / (time.perf_counter() - began)
    shares = [routing(separate(model, stem), index) for index, stem in enumerate(stems)]
    as_estimate = np.broadcast_to(mixture, stems.shape)
    return Figures(sdr_db(stems, as_estimate), sdr_db(stems, estimate), np.array(shares), speed)


def first_seed(family: str) -> int:
    """Return the seed of a family's first unseen song; those of the next ones follow."""
    return FIRST_UNSEEN_SEED + sorted(PALETTES).index(family) * 10_000


def family_songs(family: str, count: int) -> Iterator[NDArray[np.float32]]:
    """Render the first `count` unseen songs of a family; the same ones every time."""
    for seed in range(first_seed(family), first_seed(family) + count):
        yield make_stems(seed, SONG_SECONDS, PALETTES[family])


def table(figures: list[Figures]) -> str:
    """Format the mean figures, and the worst song's, as a Markdown table."""

    def row(label: str, values: NDArray[np.float64], unit: str = "{:.1f}") -> str:
        cells = [unit.format(value) for value in (*values, values.mean())]
        return f"| {label} | " + " | ".join(cells) + " |"

    mixture = np.mean([each.mixture_db for each in figures], axis=0)
    model = np.mean([each.model_db for each in figures], axis=0)
    worst = np.min([each.model_db for each in figures], axis=0)
    shares = np.mean([each.routing for each in figures], axis=0)
    return "\n".join(
        [
            "| | " + " | ".join(SOURCES) + " | mean |",
            "|---|" + "---|" * (len(SOURCES) + 1),
            row("mixture as estimate, dB", mixture),
            row("model SDR, dB", model),
            row("improvement, dB", model - mixture),
            row("lowest song, dB", worst),
            row("alone: energy in its own output", shares, "{:.0%}"),
        ]
    )


def main() -> None:
    """Judge the given weights on the given families."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--songs", type=int, default=8)
    parser.add_argument("--families", nargs="+", choices=sorted(PALETTES), default=list(PALETTES))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_safetensors_model(options.weights)
    model.eval()
    for family in options.families:
        figures = [judge(model, stems) for stems in family_songs(family, options.songs)]
        speed = float(np.median([each.speed for each in figures]))
        print(f"\n{family}: {len(figures)} songs of {SONG_SECONDS:.0f} s, {speed:.0f} x real time\n")
        print(table(figures), flush=True)


if __name__ == "__main__":
    main()
