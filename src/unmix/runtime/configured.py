"""The settings of this process, or one line that says which of them are wrong and what each can be."""

from difflib import get_close_matches
from typing import TYPE_CHECKING

from pydantic import ValidationError

from unmix.errors import InputError
from unmix.settings import Settings, unknown_settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def read_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        InputError: some are wrong, or are none (`bad_setting`). The message never has what was given, as it may be a
            secret.
    """
    wrong = [*map(_corrected, unknown_settings())]
    try:
        settings = Settings()
    except ValidationError as error:
        wrong += map(_explained, error.errors(include_url=False, include_input=False))
    if wrong:
        raise InputError("; ".join(wrong), code="bad_setting")
    return settings


def _corrected(name: str) -> str:
    """Say that there is no setting of this name, and which one may be meant."""
    known = [f"UNMIX_{each.upper()}" for each in Settings.model_fields]
    meant = get_close_matches(name.upper(), known, n=1)
    return f"{name} is no setting" + (f", {meant[0]} is" if meant else ", docs/settings.md has all")


def _explained(fault: "ErrorDetails") -> str:
    facts = fault.get("ctx", {})
    kind = fault["type"].removesuffix("_parsing").removesuffix("_type")
    wanted = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "literal_error": f"one of {facts.get('expected')}",
        "greater_than": f"more than {facts.get('gt')}",
        "greater_than_equal": f"{facts.get('ge')} or more",
        "less_than_equal": f"{facts.get('le')} or less",
    }.get(kind)
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"] or message.startswith("UNMIX_"):
        return message
    name = f"UNMIX_{str(fault['loc'][0]).upper()}"
    return f"{name} has to be {wanted}" if wanted else f"{name}: {message}"
