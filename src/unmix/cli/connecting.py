"""How commands reach a server: with the key of the settings, patiently, and with advice where there is none."""

from typing import TYPE_CHECKING

from unmix.cli.output import say
from unmix.errors import UnmixError
from unmix.runtime.configured import read_settings

if TYPE_CHECKING:
    from unmix.client import Client


def connect(url: str) -> "Client":
    """Return the client of a server that answers now; one that goes away later is waited for.

    Raises:
        UnmixError: nobody answers there (`rest_unavailable`), or somebody else does (`bad_answer`).
    """
    from unmix.client import Client, Patience

    client = Client(url, key=read_settings().key.get_secret_value(), patience=Patience(on_wait=_Waits()))
    try:
        client.version()
    except UnmixError as error:
        if error.code != "rest_unavailable":
            raise
        advice = "start one with `make run` or `unmix local`, or name another with --url"
        raise type(error)(f"{error.message}; {advice}", code=error.code) from error
    return client


def stays_away(error: UnmixError) -> bool:
    """Tell whether an error is none of the song's or job's that was asked for: all others would meet it too."""
    return error.retryable or error.code == "rest_unavailable"


class _Waits:
    """Says why the command waits, once for each reason."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, error: UnmixError, pause_seconds: float) -> None:
        if error.message != self._said:
            self._said = error.message
            say(f"waiting: {error.message} ({error.code})")
