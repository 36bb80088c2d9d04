"""The commands for the keys of a service: `keys create`, `list`, `revoke`, `rotate`.

They work on the object store itself, so that the first key needs no key, and that nobody makes keys over the network.
"""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from unmix.access.keys import GRANTABLE, USUAL, Key
from unmix.cli.options import names_in
from unmix.cli.output import say
from unmix.errors import InputError
from unmix.names import MAIN_TENANT
from unmix.runtime.configured import read_settings
from unmix.runtime.terminal import printable

if TYPE_CHECKING:
    from unmix.access.keyring import Keyring

commands = typer.Typer()
key_commands = typer.Typer(help="Make and end the keys that clients need with UNMIX_AUTH=keys.", no_args_is_help=True)
commands.add_typer(key_commands, name="keys")

Named = Annotated[str, typer.Argument(metavar="KEY", help="The name of a key, or its id.")]


@key_commands.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is called: who has it, or what for.")],
    scopes: Annotated[
        str, typer.Option(help=f"What it may be used for, separated by commas: {', '.join(GRANTABLE)}.")
    ] = ",".join(USUAL),
    tenant: Annotated[str, typer.Option(help="Whose songs it is for: no tenant sees those of another.")] = MAIN_TENANT,
    days: Annotated[
        float | None, typer.Option(min=0, help="How long it counts.", show_default="until it is revoked")
    ] = None,
) -> None:
    """Make a key and print it. It is shown this once: only its hash is kept."""
    wanted = names_in(scopes)
    if unknown := [scope for scope in wanted if scope not in GRANTABLE]:
        raise InputError(f"no scope is called {', '.join(unknown)}: {', '.join(GRANTABLE)}", code="unknown_scope")
    if not wanted:
        raise InputError("a key without a scope opens nothing", code="unknown_scope")
    expires_at = None if days is None else time.time() + days * 86_400
    _show(*_keyring().create(name, scopes=dict.fromkeys(wanted), tenant=tenant, expires_at=expires_at))


@key_commands.command("list")
def list_keys() -> None:
    """Print all keys: id, name, tenant, scopes, whether it counts, since when, until when, the day of its last use."""
    for key in _keyring().all():
        typer.echo(_line(key))


@key_commands.command()
def revoke(name: Named) -> None:
    """Let a key count no more, or all of one name. REST notices within ten seconds."""
    for key in _keyring().revoke(name):
        typer.echo(_line(key))


@key_commands.command()
def rotate(
    name: Named,
    keep_hours: Annotated[float, typer.Option(min=0, help="How long the old key still counts.")] = 24,
) -> None:
    """Make a key that takes the place of another one, and print it."""
    _show(*_keyring().rotate(name, keep_seconds=keep_hours * 3600))


def _keyring() -> "Keyring":
    from unmix.access.keyring import Keyring
    from unmix.runtime.connect import connect_store

    settings = read_settings()
    store = connect_store(settings)
    store.prepare()
    say(f"keys of the store {settings.store_url}")
    return Keyring(store)


def _show(key: Key, text: str) -> None:
    """Print a new key: that alone on standard output."""
    typer.echo(text)
    say(f"this is the only time that it is shown: {_line(key)}")


def _line(key: Key) -> str:
    ended = "revoked" if key.revoked_at else "expired"
    facts = (
        f"{key.key_id}  {key.name}  tenant {key.tenant}  {','.join(key.scopes)}",
        "counts" if key.is_live(time.time()) else ended,
        f"made {key.created_at}",
        f"until {key.expires_at}" if key.expires_at else "",
        f"last used {key.used_on}" if key.used_on else "never used",
    )
    return printable("  ".join(fact for fact in facts if fact))
