"""The commands that separate on this machine, without any service: `separate`, and `fetch` for its models."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmix.audio.formats import check_bitrate, check_format, check_rate
from unmix.audio.music import music_of
from unmix.audio.passes import check_passes
from unmix.cli.batches import Batch, Task, batch_of, stoppable
from unmix.cli.options import (
    Again,
    Bitrate,
    Bits,
    Consistency,
    Device,
    End,
    Format,
    Json,
    Model,
    NameTemplate,
    Output,
    Overlap,
    Precision,
    Shifts,
    SongRate,
    Songs,
    Start,
    Stems,
    Wish,
    names_in,
)
from unmix.cli.output import Run
from unmix.errors import InputError, UnmixError
from unmix.runtime.configured import read_settings

if TYPE_CHECKING:
    from unmix.engine.separator import Separation, Separator

commands = typer.Typer()


@commands.command()
def separate(
    songs: Songs,
    output: Output = Path("stems"),
    name_template: NameTemplate = "",
    again: Again = False,
    as_json: Json = False,
    model: Model = None,
    model_dir: Annotated[Path | None, typer.Option(help="Folder of your own models.")] = None,
    format: Format = "mp3",
    bits: Bits = 16,
    song_rate: SongRate = False,
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
    settings = read_settings()
    check_format(format, bits)
    check_rate(format, song_rate=song_rate)
    check_bitrate(format, bitrate_kbps)
    check_passes(overlap, shifts)  # before a model is loaded for nothing
    chosen = {"model_dir": model_dir, "device": device, "precision": precision}
    settings = settings.model_copy(update={name: value for name, value in chosen.items() if value})
    settings = settings.model_copy(update={"decoder_sandbox": "off"})  # the songs are the user's own
    wish = Wish(
        model=model or settings.model,
        stems=names_in(stems),
        format=format,
        bits=bits,
        song_rate=song_rate,
        bitrate_kbps=bitrate_kbps or settings.mp3_bitrate_kbps,
        precision=settings.precision,
        overlap=overlap,
        shifts=shifts,
        mixture_consistency=mixture_consistency,
        start=start,
        end=end,
    )
    batch = batch_of(songs, output, name_template, wish.noted(), again=again)
    with stoppable(), Run(batch.size, as_json=as_json) as run:
        run.skipped(batch.skipped)
        if batch.tasks:
            from unmix.separating import make_separator

            separator = make_separator(wish.model or settings.model, settings, at_once=at_once)
            _separate_all(batch, separator, wish, run, at_once=at_once)
    if run.has_failed:
        raise typer.Exit(1)


@commands.command()
def fetch(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Names of models.")],
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


def _separate_all(batch: Batch, separator: "Separator", wish: Wish, run: Run, *, at_once: int) -> None:
    """Separate the songs of a batch; one that fails does not stop the others."""
    stopped = threading.Event()
    with _pool(at_once, stopped) as pool:
        separating = {
            pool.submit(_separate_one, batch, task, separator, wish, run, stopped): task for task in batch.tasks
        }
        for future in as_completed(separating):
            task = separating[future]
            try:
                separation = future.result()
            except UnmixError as error:
                run.failed(task.song, error)
            else:
                run.done(
                    task.song,
                    separation.stems,
                    warnings=separation.warnings,
                    notes=separation.notes,
                    music=music_of(separation.heard),
                )


def _separate_one(
    batch: Batch, task: Task, separator: "Separator", wish: Wish, run: Run, stopped: threading.Event
) -> "Separation":
    options = {name: value for name, value in asdict(wish).items() if name not in ("model", "precision")}
    with batch.deliveries.folder() as folder:
        separation = separator.separate_file(
            task.song, folder, **options, on_progress=partial(_advance, run, task.song, stopped)
        )
        return replace(separation, stems=batch.deliver(task, separation.stems))


@contextmanager
def _pool(threads: int, stopped: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Yield threads for songs; on Ctrl-C none begins another one, and those that run end at their next window."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield pool
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _advance(run: Run, song: Path, stopped: threading.Event, done: int, total: int) -> None:
    if stopped.is_set():
        raise KeyboardInterrupt  # in the thread of the song, which then leaves no half of it behind
    run.goes_on(song, done / total if total else 0.0, song.name)
