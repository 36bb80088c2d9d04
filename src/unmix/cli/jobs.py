"""The commands for a server's jobs: `submit`, `cancel` and `failed`, each over `unmix.client`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress

from unmix.cli.options import (
    DEFAULT_URL,
    Bitrate,
    Bits,
    Consistency,
    End,
    Format,
    Jobs,
    Model,
    Output,
    Overlap,
    Precision,
    Shifts,
    Songs,
    Start,
    Stems,
    Url,
    check_names,
    names_in,
    read_settings,
)
from unmix.cli.output import complain, finish, printable, progress_bars, tell
from unmix.errors import UnmixError

if TYPE_CHECKING:
    from unmix.client import Client

commands = typer.Typer()
failed_commands = typer.Typer(
    help="Look at failed jobs on a server, try them again, or drop them.", no_args_is_help=True
)
commands.add_typer(failed_commands, name="failed")


@commands.command()
def submit(
    songs: Songs,
    url: Url = DEFAULT_URL,
    model: Model = None,
    stems: Stems = "",
    format: Format = "mp3",
    bits: Bits = 16,
    bitrate_kbps: Bitrate = None,
    precision: Precision = None,
    overlap: Overlap = 0.25,
    shifts: Shifts = 0,
    mixture_consistency: Consistency = False,
    start: Start = 0.0,
    end: End = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the stems and save them.")] = False,
    output: Output = Path("stems"),
) -> None:
    """Send songs to a server, and fetch their stems if asked to."""
    check_names(songs)
    jobs: list[tuple[Path, str]] = []
    delivered: list[Path] = []
    failed = False
    with _client(url) as client:
        for song in songs:
            try:
                job_id = client.submit(
                    song,
                    model=model,
                    stems=names_in(stems),
                    format=format,
                    bits=bits,
                    bitrate_kbps=bitrate_kbps,
                    precision=precision,
                    overlap=overlap,
                    shifts=shifts,
                    mixture_consistency=mixture_consistency,
                    start=start,
                    end=end,
                )
            except UnmixError as error:
                failed = True
                complain(error, song)
            else:
                jobs.append((song, job_id))
                typer.echo(f"{song}: {job_id}")
        with progress_bars() as progress:
            for song, job_id in jobs if wait else ():
                try:
                    delivered += _fetch(client, song, job_id, output / song.stem, progress)
                except UnmixError as error:
                    failed = True
                    complain(error, song)
    finish(delivered, failed=failed)


@commands.command()
def cancel(job_ids: Jobs, url: Url = DEFAULT_URL) -> None:
    """Cancel jobs that are not over."""
    with _client(url) as client:
        _for_each(job_ids, client.cancel)


@failed_commands.command("list")
def list_failed(url: Url = DEFAULT_URL) -> None:
    """Print the failed jobs, the last failure first: when, which, why."""
    with _client(url) as client:
        for failure in client.failures():
            text = f"{failure.finished_at}  {failure.job_id}  {failure.error_code}  {failure.error}"
            typer.echo(printable(text))


@failed_commands.command("retry")
def retry_failed(job_ids: Jobs, url: Url = DEFAULT_URL) -> None:
    """Submit failed or cancelled jobs again, with the options they had."""
    with _client(url) as client:
        _for_each(job_ids, client.retry)


@failed_commands.command("drop")
def drop_failed(job_ids: Jobs, url: Url = DEFAULT_URL) -> None:
    """Remove jobs with all that is stored of them."""
    with _client(url) as client:
        _for_each(job_ids, client.remove)


def _client(url: str) -> "Client":
    from unmix.client import Client

    return Client(url, key=read_settings().key.get_secret_value())


def _for_each(job_ids: list[str], action: Callable[[str], None]) -> None:
    """Do the same to each job; one that refuses does not stop the others."""
    failed = False
    for job_id in job_ids:
        try:
            action(job_id)
        except UnmixError as error:
            failed = True
            complain(error, job_id)
    if failed:
        raise typer.Exit(1)


def _fetch(client: "Client", song: Path, job_id: str, folder: Path, progress: Progress) -> list[Path]:
    """Wait until a job is over and save its stems in `folder`."""
    task = progress.add_task(song.name, total=1.0)
    for job in client.watch(job_id):
        where = f" ({job.position} in the queue)" if job.position else ""
        progress.update(task, completed=job.progress, description=f"{song.name} {job.status.value}{where}")
    if job.status != "done":
        raise UnmixError(job.error or job.status.value, code=job.error_code or job.status.value)
    tell(song, warnings=job.warnings, notes=job.notes, music=job.music)
    format = job.options.format if job.options else "mp3"
    return [client.download(job_id, stem, folder / f"{stem}.{format}") for stem in job.stems]
