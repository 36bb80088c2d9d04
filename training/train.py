"""Fits the demo model on one or more CPU processes until the given minutes have passed.

Owns the loop: batches → L1 loss → averaged gradients → AdamW → moving average of the weights.
Each process has one thread and its own random crops; gradients are averaged every step, so N
processes act as one with an N times larger batch. `library` gives the batches, `export` reads
the checkpoint `ema.pt`.
    python -m training.train SONGS VALIDATION OUT --minutes 75 --processes 2
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from demucs.htdemucs import HTDemucs
from numpy.typing import NDArray
from torch import nn

from training.library import Augmentation, Library
from training.metrics import sdr_db
from training.model import SEGMENT_SECONDS, build, separate


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, but for the songs."""

    minutes: float
    processes: int
    #: crops per process and step; small, since many steps beat clean gradients in so short a run
    batch_size: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    warm_up_steps: int = 100
    #: the last share of the time, over which the rate falls to zero as a half cosine
    decay_share: float = 0.5
    gradient_norm: float = 1.0
    ema_decay: float = 0.995
    minutes_between_checks: float = 2.5
    seed: int = 0


def learning_rate(recipe: Recipe, step: int, progress: float) -> float:
    """Return the rate at a step; `progress` is the share of the time that has passed, 0..1."""
    warm = min(1.0, (step + 1) / recipe.warm_up_steps)
    falling = max(0.0, (progress - (1 - recipe.decay_share)) / recipe.decay_share)
    return recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))


def l1_loss(estimate: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean absolute error over the deviation of each mixture: (batch, 4, 2, time) twice → ()."""
    deviation = truth.sum(dim=1).std(dim=(1, 2), keepdim=True)[:, None] + 1e-4
    return ((estimate - truth).abs() / deviation).mean()


def update_ema(ema: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the averaged weights towards the model's; early steps forget the random start faster."""
    decay = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for average, current in zip(ema.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - decay)


def average_gradients(parameters: list[nn.Parameter], progress: float) -> float:
    """Average gradients over processes in place; return the average of their progress.

    The progress travels in the same message, so that all processes stop at the same step.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients] + [torch.tensor([progress])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for gradient in gradients:
        count = gradient.numel()
        gradient.copy_(flat[offset : offset + count].view_as(gradient))
        offset += count
    return float(flat[-1])


def validate(model: HTDemucs, songs: list[NDArray[np.int16]]) -> list[float]:
    """Mean SDR in dB per stem over int16 songs (4, 2, time)."""
    model.eval()
    figures = []
    for song in songs:
        truth = song.astype(np.float32) / np.float32(32768)
        figures.append(sdr_db(truth, separate(model, truth.sum(axis=0))))
    return [round(float(value), 2) for value in np.mean(figures, axis=0)]


def record(out: Path, ema: HTDemucs, songs: list[NDArray[np.int16]], entry: dict[str, float]) -> None:
    """Validate, save `ema.pt`, and append a line to `curve.jsonl`."""
    figures = validate(ema, songs)
    torch.save(ema.state_dict(), out / "ema.pt")
    line = json.dumps({**entry, "sdr_db": figures, "mean_sdr_db": round(float(np.mean(figures)), 2)})
    with (out / "curve.jsonl").open("a") as curve:
        curve.write(line + "\n")
    print(line, flush=True)


def compute_gradients(model: HTDemucs, truth: torch.Tensor) -> float:
    """Fill the parameters' gradients from true stems (batch, 4, 2, time); return the loss."""
    model.train()
    # bfloat16 convolutions take a fifth off a step; the STFT and the loss stay float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate = model(truth.sum(dim=1))
    loss = l1_loss(estimate.float(), truth)
    model.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    return loss.item()


def run(rank: int, recipe: Recipe, songs: Path, validation: Path, out: Path, meeting: str) -> None:
    """Train in one process; rank 0 also records."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=recipe.processes)
    model, ema = build(recipe.seed), build(recipe.seed)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True)
    library, held_back = Library(songs), Library(validation).songs
    rng = np.random.default_rng([recipe.seed, rank])
    began = time.monotonic()
    next_check, step, progress = recipe.minutes_between_checks, 0, 0.0
    losses: list[float] = []
    while progress < 1:
        truth = library.batch(rng, size=recipe.batch_size, seconds=SEGMENT_SECONDS, augmentation=Augmentation())
        losses.append(compute_gradients(model, truth))
        minutes = (time.monotonic() - began) / 60
        progress = average_gradients(parameters, minutes / recipe.minutes)
        nn.utils.clip_grad_norm_(parameters, recipe.gradient_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, progress)
        optimizer.step()
        update_ema(ema, model, step, recipe.ema_decay)
        step += 1
        if rank == 0 and (minutes >= next_check or progress >= 1):
            next_check += recipe.minutes_between_checks
            loss = round(float(np.mean(losses)), 4)
            record(out, ema, held_back, {"minutes": round(minutes, 1), "step": step, "loss": loss})
            losses.clear()
    dist.destroy_process_group()


def main() -> None:
    """Start the processes and wait for the last of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("songs", "validation", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(minutes=options.minutes, processes=options.processes, seed=options.seed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (recipe, options.songs, options.validation, options.out, f"file://{folder}/meeting")
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(recipe.processes, mp_context=spawn) as pool:
            ranks = [pool.submit(run, rank, *arguments) for rank in range(recipe.processes)]
            for rank in ranks:
                rank.result()


if __name__ == "__main__":
    main()
