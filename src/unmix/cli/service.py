"""The commands that run the service here (`local`, `demo`), or a part of it (`janitor`, `audit`, `buckets`, `logs`).

`status` tells what takes how much room.
`webhook-secret` makes what one of its settings needs.
"""

from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from unmix.cli.options import Device, Output
from unmix.runtime.configured import read_settings
from unmix.runtime.terminal import printable
from unmix.settings import Settings

commands = typer.Typer()


@commands.command()
def local(
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many songs are separated at once; 0: as many as the processors and the memory allow, or one "
            "where UNMIX_THREADS or another device is named.",
        ),
    ] = 0,
    model: Annotated[
        str | None,
        typer.Option(help="Model name; auto: htdemucs if it can be had.", show_default="UNMIX_MODEL or auto"),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Folder for all data.")] = Path(".unmix"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0: any free one.")] = 5000,
    device: Device = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen at; 0.0.0.0 lets others in, with keys.", show_default="UNMIX_HOST"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each worker.", show_default="UNMIX_THREADS or shared")
    ] = None,
) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    from unmix.local.auto_model import resolve_model
    from unmix.local.devices import check_device
    from unmix.local.local import LocalPlan, free_port, serve
    from unmix.local.sizing import default_workers

    settings = _settings_for(device, host=host, threads=threads)
    check_device(settings.device)
    chosen, note = resolve_model(model or (settings.model if "model" in settings.model_fields_set else "auto"))
    if note:
        typer.echo(note)
    workers = workers or default_workers(settings)
    plan = LocalPlan(data_dir=data_dir.absolute(), port=port or free_port(), workers=workers, model=chosen)
    serve(settings, plan, say=typer.echo)


@commands.command(hidden=True)
def demo(
    song: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False)] = None,
    model: Annotated[str, typer.Option()] = "auto",
    output: Output = Path("stems"),
    device: Device = None,
) -> None:
    """Send one song through the whole service, as `make demo` does."""
    from unmix.local import demo

    if not demo.run(_settings_for(device), song, model=model, output=output):
        raise typer.Exit(1)


@commands.command()
def janitor() -> None:
    """Run the janitor: it puts abandoned work back, delivers callbacks, reconciles Redis with the store."""
    from unmix.janitor import janitor

    janitor.run(read_settings())


@commands.command()
def audit() -> None:
    """Go over all that is stored, once, as the janitor does: mark jobs that need something, apply the retention."""
    from unmix.janitor import janitor
    from unmix.runtime.logs import configure_logs

    settings = read_settings()
    configure_logs("audit", settings)
    for what, count in asdict(janitor.audit(settings)).items():
        typer.echo(f"{what}: {count}")


@commands.command()
def status(
    url: Annotated[str | None, typer.Option(help="Ask this server instead, which everybody may who has a key.")] = None,
) -> None:
    """Tell what takes how much room, and how much is left; or with --url, whether a server is ready and what it does.

    Without --url it goes over all that is stored where the settings say, which may take a while.
    """
    from unmix.cli.connecting import connect
    from unmix.cli.jobs import status_of
    from unmix.janitor.usage import lines, usage

    if url is not None:
        with connect(url) as client:
            for line in status_of(client):
                typer.echo(printable(line))
        return
    settings = read_settings()
    for line in lines(usage(settings), settings.retention):
        typer.echo(line)


@commands.command()
def buckets() -> None:
    """Make the buckets of the object store, once it answers."""
    from unmix.names import OUTPUT_BUCKET, QUEUE_BUCKET
    from unmix.runtime.connect import connect_store, wait_for_store
    from unmix.runtime.logs import configure_logs

    settings = read_settings()
    configure_logs("buckets", settings)
    wait_for_store(connect_store(settings))
    names = " and ".join(settings.store_bucket_prefix + bucket for bucket in (QUEUE_BUCKET, OUTPUT_BUCKET))
    typer.echo(f"the buckets {names} are there")


@commands.command()
def webhook_secret() -> None:
    """Print a new secret for UNMIX_WEBHOOK_SECRETS."""
    from unmix.callbacks.signing import new_secret

    typer.echo(new_secret())


@commands.command()
def logs(
    peek: Annotated[bool, typer.Option("--peek", help="Print what is there, and leave it there.")] = False,
) -> None:
    """Print the services' log lines from Redis as they come, and take them from there."""
    from unmix.local.local import interruptible
    from unmix.runtime.connect import connect_queue, wait_for_queue
    from unmix.runtime.logs import configure_logs

    settings = read_settings()
    with connect_queue(settings) as queue:
        if peek:
            for line in queue.log_list.peek():
                typer.echo(printable(line))
            return
        configure_logs("logs", settings)
        with interruptible(), suppress(KeyboardInterrupt):
            while True:
                next_line = wait_for_queue(partial(queue.log_list.pop, block_seconds=5))
                if next_line is not None:
                    typer.echo(printable(next_line))


def _settings_for(device: str | None, **options: object) -> Settings:
    """Return the settings of this process, with what the command line says instead of them."""
    given = {name: value for name, value in {"device": device, **options}.items() if value}
    return read_settings().model_copy(update=given)
