"""Fields of a request by name: each is read as what it has to be, however its form spells it.

JSON has numbers and booleans; forms and URLs can only spell them. Every function returns None, or what stands for it,
where the field is not given.

Raises:
    InputError: the field is something else (`invalid_field`), in each of them.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from unmix.errors import InputError

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,12})?")


def text_field(fields: Mapping[str, Any], name: str, *, most: int | None = None) -> str | None:
    """Read a text of at most `most` characters."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"the field {name} has to be a string", code="invalid_field")
    if value and most and len(value) > most:
        raise InputError(f"the field {name} has more than {most:,} characters", code="invalid_field")
    return value


def list_field(fields: Mapping[str, Any], name: str) -> list[str]:
    """Read a list of strings, or what is separated by commas."""
    value = fields.get(name)
    if value is None or value == "":
        return []
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise InputError(f"the field {name} has to be a list of strings", code="invalid_field")
    return [each.strip() for each in listed]


def number_field(fields: Mapping[str, Any], name: str) -> float | None:
    """Read a finite number, which forms can only spell."""
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:
        return float(value)
    raise InputError(f"the field {name} has to be a number", code="invalid_field")


def whole_field(fields: Mapping[str, Any], name: str) -> int | None:
    """Read a whole number."""
    value = number_field(fields, name)
    if value is not None and value != int(value):
        raise InputError(f"the field {name} has to be a whole number", code="invalid_field")
    return None if value is None else int(value)


def flag_field(fields: Mapping[str, Any], name: str) -> bool:
    """Read a boolean, which forms can only spell; none is false."""
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise InputError(f"the field {name} has to be true or false", code="invalid_field")
