"""JSON from strangers, read strictly: whatever is read can be kept, written again and gone through by anybody.

Python's own reader takes NaN, repeated names and any depth; what takes the object later may then fail in the middle of
its work.
"""

import json
import math
from typing import Any, Final

from unmix.errors import InputError

MAX_DEPTH: Final = 32


def parse_object(text: bytes) -> dict[str, Any]:
    """Parse a JSON object as RFC 8259 has it: no NaN, no repeated names, nothing that cannot be written back.

    Raises:
        InputError: `invalid_json`, `duplicate_key`, or `invalid_json_shape` for anything but an object.
    """
    try:
        value = json.loads(
            text.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
        _check(value, MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        raise InputError("the body is not valid JSON", code="invalid_json") from error
    if not isinstance(value, dict):
        raise InputError("the body is JSON, but not an object", code="invalid_json_shape")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InputError("a name stands twice in a JSON object", code="duplicate_key")
    return fields


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number beyond all bounds")
    return number


def _check(value: Any, depth: int) -> None:
    """Refuse lone surrogates, which cannot be written as UTF-8, and deep nesting, which others recurse into."""
    if depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for name, member in value.items():
            name.encode()
            _check(member, depth - 1)
    elif isinstance(value, list):
        for member in value:
            _check(member, depth - 1)
