"""The command line `unmix`: separate here, send songs to a server, run the service or one of its parts.

Each command is a thin shell over one module, imported when the command runs, so that the janitor never loads torch.
The commands are in a file per group; here they become one application, in the order in which `--help` lists them. An
`UnmixError` becomes one line on standard error and the exit code 1; docs/command-line.md has all exit codes.
"""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from unmix.cli import backup, jobs, keys, separate, service, submit
from unmix.cli.output import complain, say, take_any_text
from unmix.errors import UnmixError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (separate, submit, jobs, service, keys, backup):
    app.add_typer(group.commands)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"track-unmix {version('track-unmix')}")
        raise typer.Exit


@app.callback()
def of_all_commands(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Track-Unmix: separate songs into their stems."""


def main() -> None:
    """Run the command line."""
    take_any_text()
    try:
        app()
    except UnmixError as error:
        complain(error)
        sys.exit(1)
    except OSError as error:  # a folder that cannot be written, a song that cannot be read
        say(f"error: {_words(error)}")
        sys.exit(1)


def _words(error: OSError) -> str:
    """Say what is wrong with which file, without the number that the system has for it."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


if __name__ == "__main__":
    main()
