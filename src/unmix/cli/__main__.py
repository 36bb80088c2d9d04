"""The command line `unmix`: separate here, send songs to a server, run the service or one of its parts.

Each command is a thin shell over one module, imported when the command runs, so that the janitor never loads torch.
The commands are in a file per group; here they become one application, in the order in which `--help` lists them. An
`UnmixError` becomes one line on standard error and the exit code 1.
"""

import sys

import typer

from unmix.cli import jobs, keys, separate, service
from unmix.cli.output import complain, stderr
from unmix.errors import UnmixError

app = typer.Typer(
    help="Track-Unmix: separate songs into their stems.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (separate, jobs, service, keys):
    app.add_typer(group.commands)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except UnmixError as error:
        complain(error)
        sys.exit(1)
    except OSError as error:  # a folder that cannot be written, a song that cannot be read
        stderr.print(f"error: {error}", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
