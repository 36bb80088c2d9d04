"""The commands for a server and its jobs, each over `unmix.client`: find, watch, fetch, cancel; models; what failed."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from unmix.cli.batches import stoppable
from unmix.cli.connecting import connect, stays_away
from unmix.cli.deliveries import sha256_of
from unmix.cli.options import DEFAULT_URL, Jobs, Json, Output, Url, names_in
from unmix.cli.output import Run, complain, print_json
from unmix.errors import InputError, UnmixError
from unmix.job import JobStatus
from unmix.names import file_name
from unmix.runtime.terminal import printable
from unmix.words import counted

if TYPE_CHECKING:
    from unmix.client import Client, JobView

commands = typer.Typer()
failed_commands = typer.Typer(
    help="Look at failed jobs on a server, try them again, or drop them.", no_args_is_help=True
)
commands.add_typer(failed_commands, name="failed")

#: Pause between two looks at jobs.
PAUSE_SECONDS: Final = 1.0


@commands.command("jobs")
def list_jobs(
    url: Url = DEFAULT_URL,
    status: Annotated[JobStatus | None, typer.Option(help="Only those in this state.")] = None,
    label: Annotated[str | None, typer.Option(help="Only those with this label.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only those that were sent with it.")] = None,
    name: Annotated[str | None, typer.Option(help="Only those whose song's name has this in it.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """Print the jobs of a server, the newest first: when, which, how it stands, what the song is called."""
    with connect(url) as client:
        for job in islice(client.jobs(status=status, label=label, batch=batch, name=name), limit):
            if as_json:
                print_json(job.to_fields())
                continue
            share = f" {job.progress:.0%}" if job.status is JobStatus.RUNNING else ""
            why = f" ({job.error_code})" if job.error_code else ""
            text = f"{job.submitted_at}  {job.hash}  {job.status.value}{share}{why}  {job.name or ''}"
            typer.echo(printable(text.rstrip()))


@commands.command()
def watch(job_ids: Jobs, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Wait until jobs are over, and tell how each ended; the exit code is 0 if all are done."""
    with stoppable("the jobs go on"), connect(url) as client, Run(len(job_ids), as_json=as_json) as run:
        waiting = list(dict.fromkeys(job_ids))
        while waiting:
            for job_id in list(waiting):
                with _telling(run, job_id):
                    job = client.job(job_id)
                    if not job.status.is_over:
                        run.goes_on(job_id, job.progress, f"{_named(job)} {job.status.value}")
                        continue
                    _tell_end(run, _checked(job), {})
                waiting.remove(job_id)
            if waiting:
                time.sleep(PAUSE_SECONDS)
    if run.has_failed:
        raise typer.Exit(1)


@commands.command()
def download(
    job_ids: Jobs,
    url: Url = DEFAULT_URL,
    output: Output = Path("stems"),
    stems: Annotated[
        str, typer.Option(help="Which stems, separated by commas. All that the job has if none is named.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Save the stems of jobs that are done, as `DIR/Song - vocals.mp3`; what is there already is not fetched again."""
    taken: set[str] = set()
    with stoppable(), connect(url) as client, Run(len(job_ids), as_json=as_json) as run:
        for job_id in dict.fromkeys(job_ids):
            with _telling(run, job_id):
                job = _checked(client.job(job_id))
                name = _named(job) if _named(job) not in taken else f"{_named(job)} {job_id[-8:]}"
                taken.add(name)
                format = job.options.format if job.options else "mp3"
                files = {stem: output / file_name(name, stem, format) for stem in _wanted(stems, job)}
                for stem, file in files.items():
                    run.goes_on(job_id, 0.0, f"{_named(job)} {stem}")
                    if not (file.is_file() and sha256_of(file) == job.stems[stem].sha256):
                        client.download(job_id, stem, file)
                _tell_end(run, job, files)
    if run.has_failed:
        raise typer.Exit(1)


@commands.command()
def models(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Print the models of a server, the default one first: their stems, how fast they are there, the licence."""
    with connect(url) as client:
        for model in client.models():
            if as_json:
                print_json(model.to_fields())
                continue
            known = ["default"] * model.default
            known += [", ".join(model.stems)] if model.stems else ["no worker has loaded it yet"]
            known += [f"{model.realtime_factor:.2f} s for a second of song"] if model.realtime_factor else []
            known += [model.weights.licence] if model.weights and model.weights.licence else []
            known += ["not offered (UNMIX_WEIGHTS)"] * (not model.offered)
            typer.echo(printable("  ".join([model.name, *known])))


@commands.command()
def cancel(job_ids: Jobs, url: Url = DEFAULT_URL) -> None:
    """Cancel jobs that are not over."""
    with connect(url) as client:
        _for_each(job_ids, client.cancel)


@failed_commands.command("list")
def list_failed(url: Url = DEFAULT_URL) -> None:
    """Print the failed jobs, the last failure first: when, which, why."""
    with connect(url) as client:
        for failure in client.failures():
            text = f"{failure.finished_at}  {failure.hash}  {failure.error_code}  {failure.error}"
            typer.echo(printable(text))


@failed_commands.command("retry")
def retry_failed(job_ids: Jobs, url: Url = DEFAULT_URL) -> None:
    """Submit failed or cancelled jobs again, with the options they had."""
    with connect(url) as client:
        _for_each(job_ids, client.retry)


@failed_commands.command("drop")
def drop_failed(job_ids: Jobs, url: Url = DEFAULT_URL) -> None:
    """Remove jobs with all that is stored of them."""
    with connect(url) as client:
        _for_each(job_ids, client.remove)


def status_of(client: "Client") -> list[str]:
    """Return what there is to say of a server and of its work."""
    fault, waiting = client.fault(), client.queue()
    ready = [model.name for model in client.models() if model.announced]
    workers = waiting.workers
    return [
        f"Track-Unmix {client.version()} at {client.url}",
        f"not ready: {fault}" if fault else "ready",
        f"waiting: {counted(waiting.total, 'song')}; being separated: {len(waiting.running)}",
        f"models that a worker has loaded: {', '.join(ready)}" if ready else "no worker has been ready yet",
        *([workers.message or f"workers: {workers.ready} ready, {workers.loading} loading"] if workers else []),
    ]


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


def _checked(job: "JobView") -> "JobView":
    """Return a job that is done.

    Raises:
        UnmixError: it ended otherwise, or not yet.
    """
    if job.status is JobStatus.DONE:
        return job
    if not job.status.is_over:
        raise UnmixError(f"the job is {job.status.value}: `unmix watch` waits for it", code="job_not_over")
    raise UnmixError(job.error or f"the job was {job.status.value}", code=job.error_code or job.status.value)


def _wanted(stems: str, job: "JobView") -> tuple[str, ...]:
    """Return which stems of a job an option lists, all if it lists none."""
    named = names_in(stems)
    if missing := sorted(set(named) - set(job.stems)):
        there = ", ".join(sorted(job.stems))
        raise InputError(f"the job has no {', '.join(missing)}, but {there}", code="unknown_stem")
    return named or tuple(sorted(job.stems))


@contextmanager
def _telling(run: Run, job_id: str) -> Iterator[None]:
    """Tell what goes wrong with a job, which stops no other one; a server that stays away stops all."""
    try:
        yield
    except UnmixError as error:
        if stays_away(error):
            raise
        run.failed(job_id, error)


def _tell_end(run: Run, job: "JobView", files: Mapping[str, Path]) -> None:
    run.done(_named(job), files, job=job.hash, warnings=job.warnings, notes=job.notes, music=job.music)


def _named(job: "JobView") -> str:
    return job.name or job.hash
