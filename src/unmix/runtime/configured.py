"""The settings of this process, or one line that says which of them are wrong and what each can be."""

from typing import TYPE_CHECKING

from pydantic import ValidationError

from unmix.errors import InputError
from unmix.settings import Settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def read_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        InputError: some are wrong (`bad_setting`). The message never has what was given, as it may be a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise InputError("; ".join(map(_explained, faults)), code="bad_setting") from error


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
