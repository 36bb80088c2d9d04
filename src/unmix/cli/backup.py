"""The commands that copy all that a service keeps: `export` into a folder, and `import` out of one.

The other side is the store that the settings name. Such a folder is a file store itself: a service can run on it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unmix.cli.output import say, stderr
from unmix.errors import InputError
from unmix.names import QUEUE_BUCKET
from unmix.runtime.configured import read_settings

if TYPE_CHECKING:
    from unmix.ledger.copying import Copied

commands = typer.Typer()

Delete = Annotated[
    bool, typer.Option("--delete", help="Remove the jobs there that are not here any more, so that both are alike.")
]


@commands.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", file_okay=False, help="Made if it is not there.")],
    delete: Delete = False,
) -> None:
    """Copy all that a service keeps into FOLDER: at any time, and the next time only what has changed."""
    _copy(folder, is_source=False, delete=delete)


@commands.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="What `unmix export` has filled.")
    ],
    delete: Delete = False,
) -> None:
    """Copy all of FOLDER into the store that the settings name, on which no service may run meanwhile."""
    if not (folder / QUEUE_BUCKET).is_dir():
        text = f"{folder} has no folder {QUEUE_BUCKET}: it is neither a copy nor the `store` of `unmix local`"
        raise InputError(text, code="no_copy")
    _copy(folder, is_source=True, delete=delete)


def _copy(folder: Path, *, is_source: bool, delete: bool) -> None:
    """Copy, and say what was done; exit code 1 if something is damaged."""
    from unmix.ledger.copying import Copying
    from unmix.runtime.connect import connect_store
    from unmix.store.file import FileStore

    store, copy = connect_store(read_settings()), FileStore(folder)
    if isinstance(store, FileStore) and store.root == copy.root:
        raise InputError(f"{folder} is the store of the service itself; name another folder", code="same_store")
    source, target = (copy, store) if is_source else (store, copy)
    with stderr.status("") as status:
        done = Copying(source, target, delete=delete).run(lambda done: status.update(_told(done)))
    typer.echo(_told(done))
    if done.surplus and delete:
        typer.echo(f"removed there, as they are gone here: {done.surplus:,} jobs")
    elif done.surplus:
        say(f"kept there, although they are gone here: {done.surplus:,} jobs; --delete removes them")
    for text in done.damaged:
        say(f"error: not copied: {text}")
    if done.damaged:
        raise typer.Exit(1)


def _told(done: "Copied") -> str:
    from unmix.janitor.usage import sized

    copied = f"{done.objects:,} objects, {sized(done.size_bytes)}"
    return f"jobs: {done.jobs:,}; copied: {copied}; there already: {done.same:,} objects"
