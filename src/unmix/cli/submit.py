"""`unmix submit`: sends songs to a server, and brings their stems."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from unmix.cli.batches import Batch, Task, batch_of, stoppable
from unmix.cli.connecting import connect, stays_away
from unmix.cli.options import (
    DEFAULT_URL,
    Bitrate,
    Bits,
    Consistency,
    End,
    FetchAgain,
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
    Url,
    Wish,
    names_in,
)
from unmix.cli.output import Run
from unmix.errors import InputError, UnmixError

if TYPE_CHECKING:
    from unmix.client import Client, JobView

commands = typer.Typer()

#: Pause between two looks at the jobs that are waited for.
PAUSE_SECONDS: Final = 1.0
#: How many jobs are looked at each time, the first ones: they are done about in the order in which they were sent.
LOOKED_AT: Final = 16


@commands.command()
def submit(
    songs: Songs,
    url: Url = DEFAULT_URL,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the stems and save them.")] = False,
    output: Output = Path("stems"),
    name_template: NameTemplate = "",
    again: FetchAgain = False,
    as_json: Json = False,
    model: Model = None,
    stems: Stems = "",
    format: Format = "mp3",
    bits: Bits = 16,
    song_rate: SongRate = False,
    bitrate_kbps: Bitrate = None,
    precision: Precision = None,
    overlap: Overlap = 0.25,
    shifts: Shifts = 0,
    mixture_consistency: Consistency = False,
    start: Start = 0.0,
    end: End = None,
) -> None:
    """Send songs to a server, and fetch their stems if asked to."""
    wish = Wish(
        model=model,
        stems=names_in(stems),
        format=format,
        bits=bits,
        song_rate=song_rate,
        bitrate_kbps=bitrate_kbps,
        precision=precision,
        overlap=overlap,
        shifts=shifts,
        mixture_consistency=mixture_consistency,
        start=start,
        end=end,
    )
    advice = "what was sent goes on there, and the same command fetches what is missing" if wait else ""
    with stoppable(advice), connect(url) as client:
        made = wish.noted() | {"url": client.url}
        batch = batch_of(songs, output, name_template, made, again=again or not wait)
        with Run(batch.size, as_json=as_json) as run:
            run.skipped(batch.skipped)
            _Submission(client, batch, wish, run, wait=wait).carry_out()
    if run.has_failed:
        raise typer.Exit(1)


class _Submission:
    """The songs of one call, and those of their jobs that are waited for."""

    def __init__(self, client: "Client", batch: Batch, wish: Wish, run: Run, *, wait: bool) -> None:
        self._client = client
        self._batch = batch
        self._wish = wish
        self._run = run
        self._wait = wait
        self._jobs: dict[Task, str] = {}
        self._look_at = 0.0  # monotonic seconds

    def carry_out(self) -> None:
        """Send all songs, and fetch what is done meanwhile and afterwards."""
        for task in self._batch.tasks:
            self._send(task)
            if self._jobs and time.monotonic() >= self._look_at:
                self._look()
        while self._jobs:
            time.sleep(max(0.0, self._look_at - time.monotonic()))
            self._look()

    def _send(self, task: Task) -> None:
        self._run.goes_on(task.song, 0.0, f"{task.song.name} is sent")
        with self._telling(task):
            try:
                job_id = self._client.submit(task.song, **self._wish.chosen())
            except OSError as error:
                raise InputError(f"cannot be read: {error.strerror}", code="unreadable") from error
            if self._wait:
                self._jobs[task] = job_id
            else:
                self._run.sent(task.song, job_id)

    def _look(self) -> None:
        """Look at the jobs that are next, and fetch the stems of those that are done."""
        for task, job_id in list(self._jobs.items())[:LOOKED_AT]:
            with self._telling(task):
                job = self._client.job(job_id)
                if not job.status.is_over:
                    waits = f" ({job.position} in the queue)" if job.position else ""
                    self._run.goes_on(task.song, job.progress, f"{task.song.name} {job.status.value}{waits}")
                    continue
                del self._jobs[task]
                self._fetch(task, job)
        self._look_at = time.monotonic() + PAUSE_SECONDS

    def _fetch(self, task: Task, job: "JobView") -> None:
        if job.status != "done":
            raise UnmixError(job.error or f"the job was {job.status.value}", code=job.error_code or job.status.value)
        with self._batch.deliveries.folder() as folder:
            format = job.options.format if job.options else self._wish.format
            made = {
                stem: self._client.download(job.hash, stem, folder / f"{stem}.{format}") for stem in sorted(job.stems)
            }
            files = self._batch.deliver(task, made)
        self._run.done(task.song, files, job=job.hash, warnings=job.warnings, notes=job.notes, music=job.music)

    @contextmanager
    def _telling(self, task: Task) -> Iterator[None]:
        """Tell what goes wrong with a song, which stops no other one; a server that stays away stops all."""
        try:
            yield
        except UnmixError as error:
            if stays_away(error):
                raise
            self._jobs.pop(task, None)
            self._run.failed(task.song, error)
