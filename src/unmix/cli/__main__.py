"""The command line `unmix`: separate here, send songs to a server, run the service or one of its parts.

Each command is a thin shell over one module, imported when the command runs, so that the janitor never loads torch.
An `UnmixError` becomes one line on standard error and the exit code 1.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from unmix.errors import InputError, UnmixError
from unmix.settings import Settings

if TYPE_CHECKING:
    from unmix.client import Client

app = typer.Typer(
    help="Track-Unmix: separate songs into their stems.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

failed_app = typer.Typer(help="Look at failed jobs on a server, try them again, or drop them.", no_args_is_help=True)
app.add_typer(failed_app, name="failed")

#: Progress, warnings and errors; standard output has only what a script could use.
_stderr = Console(stderr=True, highlight=False, soft_wrap=True)

DEFAULT_URL: Final = "http://localhost:5000"

Songs = Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="Songs.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Stems go to DIR/<song>/<stem>.")]
Stems = Annotated[str, typer.Option(help="Stems, separated by commas, such as vocals,instrumental; none: all sources.")]
Format = Annotated[Literal["mp3", "wav", "flac"], typer.Option(help="Format of the stems.")]
Consistency = Annotated[
    bool, typer.Option("--mixture-consistency", help="Make the stems add up to the song; estimates every source.")
]
Url = Annotated[str, typer.Option(help="The server.")]
Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help="Job ids.")]
Model = Annotated[str | None, typer.Option(help="Model to separate with.", show_default="the configured one")]


def main() -> None:
    """Run the command line."""
    try:
        app()
    except UnmixError as error:
        _complain(error)
        sys.exit(1)
    except OSError as error:  # a folder that cannot be written, a song that cannot be read
        _stderr.print(f"error: {error}", markup=False)
        sys.exit(1)


@app.command()
def separate(
    songs: Songs,
    output: Output = Path("stems"),
    model: Model = None,
    model_dir: Annotated[Path | None, typer.Option(help="Folder of your own models.")] = None,
    format: Format = "mp3",
    stems: Stems = "",
    mixture_consistency: Consistency = False,
    device: Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda, mps.", show_default="cpu")] = None,
    precision: Annotated[
        Literal["exact", "fast"] | None, typer.Option(help="How precisely.", show_default="fast")
    ] = None,
) -> None:
    """Separate songs here, without any service."""
    from unmix.engine.models import load_model
    from unmix.engine.separator import Separator

    settings = _settings()
    _check_names(songs)
    loaded = load_model(
        model or settings.model,
        model_dir=model_dir or settings.model_dir,
        trusted_weights=settings.trusted_sums,
    )
    separator = Separator(
        loaded,
        device=device or settings.device,
        backend=settings.backend,
        precision=precision or settings.precision,
        threads=settings.threads,
        cache_dir=settings.cache_dir,
    )
    delivered: list[Path] = []
    failed = False
    with _progress() as progress:
        for song in songs:
            task = progress.add_task(song.name, total=None)
            try:
                separation = separator.separate_file(
                    song,
                    output / song.stem,
                    stems=_names(stems),
                    format=format,
                    bitrate_kbps=settings.mp3_bitrate_kbps,
                    mixture_consistency=mixture_consistency,
                    on_progress=partial(_advance, progress, task),
                )
            except UnmixError as error:
                failed = True
                progress.stop_task(task)
                _complain(error, song)
            else:
                delivered += separation.stems.values()
                _warn(song, separation.warnings)
    _end(delivered, failed=failed)


@app.command()
def fetch(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names of models.")],
    model_dir: Annotated[Path | None, typer.Option(help="The folder.", show_default="UNMIX_MODEL_DIR")] = None,
) -> None:
    """Put models into a folder for machines without internet, and convert them into UNMIX_CACHE_DIR."""
    from unmix.engine.models import fetch_model, load_model
    from unmix.engine.separator import Separator

    settings = _settings()
    folder = model_dir or settings.model_dir
    if folder is None:
        raise InputError("name a folder with --model-dir or UNMIX_MODEL_DIR", code="bad_setting")
    for name in models:  # all of them before the first conversion, which takes long
        fetch_model(name, folder, trusted_weights=settings.trusted_sums)
    for name in models:
        Separator(
            load_model(name, model_dir=folder, trusted_weights=settings.trusted_sums),
            device=settings.device,
            backend=settings.backend,
            precision=settings.precision,
            threads=settings.threads,
            cache_dir=settings.cache_dir,
        )
        typer.echo(f"{name}: ready")


@app.command()
def submit(
    songs: Songs,
    url: Url = DEFAULT_URL,
    model: Model = None,
    stems: Stems = "",
    format: Format = "mp3",
    mixture_consistency: Consistency = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the stems and save them.")] = False,
    output: Output = Path("stems"),
) -> None:
    """Send songs to a server, and fetch their stems if asked to."""
    from unmix.client import Client

    _check_names(songs)
    jobs: list[tuple[Path, str]] = []
    delivered: list[Path] = []
    failed = False
    with Client(url) as client:
        for song in songs:
            try:
                job_id = client.submit(
                    song, model=model, stems=_names(stems), format=format, mixture_consistency=mixture_consistency
                )
            except UnmixError as error:
                failed = True
                _complain(error, song)
            else:
                jobs.append((song, job_id))
                typer.echo(f"{song}: {job_id}")
        with _progress() as progress:
            for song, job_id in jobs if wait else ():
                try:
                    delivered += _fetch(client, song, job_id, output / song.stem, progress)
                except UnmixError as error:
                    failed = True
                    _complain(error, song)
    _end(delivered, failed=failed)


@app.command()
def cancel(job_ids: Jobs, url: Url = DEFAULT_URL) -> None:
    """Cancel jobs that are not over."""
    from unmix.client import Client

    with Client(url) as client:
        _for_each(job_ids, client.cancel)


@failed_app.command("list")
def list_failed(url: Url = DEFAULT_URL) -> None:
    """Print the failed jobs, the last failure first: when, which, why."""
    from unmix.client import Client

    with Client(url) as client:
        for failure in client.failures():
            text = f"{failure.finished_at}  {failure.job_id}  {failure.error_code}  {failure.error}"
            typer.echo(_printable(text))


@failed_app.command("retry")
def retry_failed(job_ids: Jobs, url: Url = DEFAULT_URL) -> None:
    """Submit failed or cancelled jobs again, with the options they had."""
    from unmix.client import Client

    with Client(url) as client:
        _for_each(job_ids, client.retry)


@failed_app.command("drop")
def drop_failed(job_ids: Jobs, url: Url = DEFAULT_URL) -> None:
    """Remove jobs with all that is stored of them."""
    from unmix.client import Client

    with Client(url) as client:
        _for_each(job_ids, client.remove)


@app.command()
def local(
    workers: Annotated[int, typer.Option(min=1, help="How many songs are separated at once.")] = 1,
    model: Annotated[
        str | None,
        typer.Option(help="Model name; auto: htdemucs if it can be had.", show_default="UNMIX_MODEL or auto"),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder for all data.")] = Path(".unmix"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0: any free one.")] = 5000,
) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    from unmix.local.auto_model import resolve_model
    from unmix.local.local import LocalPlan, free_port, serve

    settings = _settings()
    chosen, note = resolve_model(model or (settings.model if "model" in settings.model_fields_set else "auto"))
    if note:
        typer.echo(note)
    plan = LocalPlan(data_dir=data_dir.absolute(), port=port or free_port(), workers=workers, model=chosen)
    serve(settings, plan, say=typer.echo)


@app.command(hidden=True)
def demo(
    song: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False)] = None,
    model: Annotated[str, typer.Option()] = "auto",
    output: Output = Path("stems"),
) -> None:
    """Send one song through the whole service, as `make demo` does."""
    from unmix.local import demo

    if not demo.run(_settings(), song, model=model, output=output):
        raise typer.Exit(1)


@app.command()
def janitor() -> None:
    """Run the janitor: it puts abandoned work back, delivers callbacks, reconciles Redis with the store."""
    from unmix.janitor import janitor

    janitor.run(_settings())


@app.command()
def buckets() -> None:
    """Make the buckets of the object store, once it answers."""
    from unmix.names import OUTPUT_BUCKET, QUEUE_BUCKET
    from unmix.runtime.connect import connect_store, wait_for_store
    from unmix.runtime.logs import configure_logs

    settings = _settings()
    configure_logs("buckets", settings)
    wait_for_store(connect_store(settings))
    names = " and ".join(settings.store_bucket_prefix + bucket for bucket in (QUEUE_BUCKET, OUTPUT_BUCKET))
    typer.echo(f"the buckets {names} are there")


@app.command()
def logs(
    peek: Annotated[bool, typer.Option("--peek", help="Print what is there, and leave it there.")] = False,
) -> None:
    """Print the services' log lines from Redis as they come, and take them from there."""
    from unmix.local.local import interruptible
    from unmix.runtime.connect import connect_queue, wait_for_queue
    from unmix.runtime.logs import configure_logs

    settings = _settings()
    with connect_queue(settings) as queue:
        if peek:
            for line in queue.log_list.peek():
                typer.echo(_printable(line))
            return
        configure_logs("logs", settings)
        with interruptible(), suppress(KeyboardInterrupt):
            while True:
                next_line = wait_for_queue(partial(queue.log_list.pop, block_seconds=5))
                if next_line is not None:
                    typer.echo(_printable(next_line))


def _for_each(job_ids: list[str], action: Callable[[str], None]) -> None:
    """Do the same to each job; one that refuses does not stop the others."""
    failed = False
    for job_id in job_ids:
        try:
            action(job_id)
        except UnmixError as error:
            failed = True
            _stderr.print(f"error: {job_id}: {error.message} ({error.code})", markup=False)
    if failed:
        raise typer.Exit(1)


def _settings() -> Settings:
    try:
        return Settings()
    except ValueError as error:  # pydantic's message names each setting and what is wrong with it
        raise InputError(str(error), code="bad_setting") from error


def _names(stems: str) -> list[str]:
    return [name.strip() for name in stems.split(",") if name.strip()]


def _check_names(songs: list[Path]) -> None:
    """Refuse songs whose stems would overwrite each other's."""
    seen: dict[str, Path] = {}
    for song in songs:
        if song.stem in seen:
            raise InputError(f"{seen[song.stem]} and {song} would share one folder of stems", code="same_name")
        seen[song.stem] = song


def _fetch(client: "Client", song: Path, job_id: str, folder: Path, progress: Progress) -> list[Path]:
    """Wait until a job is over and save its stems in `folder`."""
    task = progress.add_task(song.name, total=1.0)
    for job in client.watch(job_id):
        where = f" ({job.position} in the queue)" if job.position else ""
        progress.update(task, completed=job.progress, description=f"{song.name} {job.status.value}{where}")
    if job.status != "done":
        raise UnmixError(job.error or job.status.value, code=job.error_code or job.status.value)
    _warn(song, job.warnings)
    return [client.download(job_id, stem, folder / f"{stem}.{job.format}") for stem in job.stems]


def _progress() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=_stderr, redirect_stdout=False)


def _advance(progress: Progress, task: TaskID, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def _warn(song: Path, warnings: tuple[str, ...]) -> None:
    for warning in warnings:
        _stderr.print(f"warning: {song}: {warning}", markup=False)


def _complain(error: UnmixError, song: Path | None = None) -> None:
    where = f"{song}: " if song else ""
    _stderr.print(f"error: {where}{error.message} ({error.code})", markup=False)


def _end(files: list[Path], *, failed: bool) -> None:
    """Name the delivered files, and end the command."""
    for file in files:
        typer.echo(str(file))
    if failed:
        raise typer.Exit(1)


def _printable(line: str) -> str:
    """Return a line of any origin without what could steer a terminal or cannot be encoded."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


if __name__ == "__main__":
    main()
