"""The commands that separate on this machine, without any service: `separate`, and `fetch` for its models."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from unmix.audio.formats import check_bitrate
from unmix.audio.music import music_of
from unmix.audio.passes import check_passes
from unmix.cli.options import (
    Bitrate,
    Bits,
    Consistency,
    Device,
    End,
    Format,
    Model,
    Output,
    Overlap,
    Precision,
    Shifts,
    Songs,
    Start,
    Stems,
    check_names,
    names_in,
    read_settings,
)
from unmix.cli.output import complain, finish, progress_bars, tell
from unmix.errors import InputError, UnmixError

commands = typer.Typer()


@commands.command()
def separate(
    songs: Songs,
    output: Output = Path("stems"),
    model: Model = None,
    model_dir: Annotated[Path | None, typer.Option(help="Folder of your own models.")] = None,
    format: Format = "mp3",
    bits: Bits = 16,
    bitrate_kbps: Bitrate = None,
    stems: Stems = "",
    mixture_consistency: Consistency = False,
    start: Start = 0.0,
    end: End = None,
    overlap: Overlap = 0.25,
    shifts: Shifts = 0,
    device: Device = None,
    precision: Precision = None,
    at_once: Annotated[int, typer.Option(min=1, help="Songs to separate at the same time; worth it on a GPU.")] = 1,
) -> None:
    """Separate songs here, without any service."""
    from unmix.separating import make_separator

    settings = read_settings()
    check_names(songs)
    check_bitrate(format, bitrate_kbps)
    check_passes(overlap, shifts)  # before a model is loaded for nothing
    chosen = {"model_dir": model_dir, "device": device, "precision": precision}
    settings = settings.model_copy(update={name: value for name, value in chosen.items() if value})
    settings = settings.model_copy(update={"decoder_sandbox": "off"})  # the songs are the user's own
    separator = make_separator(model or settings.model, settings, at_once=at_once)
    delivered: list[Path] = []
    failed = False
    stopped = threading.Event()
    with progress_bars() as progress, ThreadPoolExecutor(at_once) as pool:
        tasks = [progress.add_task(song.name, total=None) for song in songs]
        separations = [
            pool.submit(
                separator.separate_file,
                song,
                output / song.stem,
                stems=names_in(stems),
                format=format,
                bits=bits,
                bitrate_kbps=bitrate_kbps or settings.mp3_bitrate_kbps,
                mixture_consistency=mixture_consistency,
                overlap=overlap,
                shifts=shifts,
                start=start,
                end=end,
                on_progress=partial(_advance, progress, task, stopped),
            )
            for song, task in zip(songs, tasks, strict=True)
        ]
        try:
            for song, task, separating in zip(songs, tasks, separations, strict=True):
                try:
                    separation = separating.result()
                except UnmixError as error:
                    failed = True
                    progress.stop_task(task)
                    complain(error, song)
                else:
                    delivered += separation.stems.values()
                    music = music_of(separation.heard)
                    tell(song, warnings=separation.warnings, notes=separation.notes, music=music)
        except BaseException:  # Ctrl-C, for one
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    finish(delivered, failed=failed)


@commands.command()
def fetch(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names of models.")],
    model_dir: Annotated[Path | None, typer.Option(help="The folder.", show_default="UNMIX_MODEL_DIR")] = None,
) -> None:
    """Put models into a folder for machines without internet, and convert them into UNMIX_CACHE_DIR."""
    from unmix.engine.models import fetch_model
    from unmix.separating import make_separator

    settings = read_settings()
    folder = model_dir or settings.model_dir
    if folder is None:
        raise InputError("name a folder with --model-dir or UNMIX_MODEL_DIR", code="bad_setting")
    settings = settings.model_copy(update={"model_dir": folder})
    for name in models:  # all of them before the first conversion, which takes long
        typer.echo(fetch_model(name, folder, trusted_weights=settings.trusted_sums).weights_notice)
    for name in models:
        make_separator(name, settings)
        typer.echo(f"{name}: ready")


def _advance(progress: Progress, task: TaskID, stopped: threading.Event, done: int, total: int) -> None:
    if stopped.is_set():
        raise KeyboardInterrupt  # in the thread of the song, which then leaves no half of it behind
    progress.update(task, completed=done, total=total)
