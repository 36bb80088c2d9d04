"""Documents that can grow: plain JSON, of which each version reads what earlier and later ones wrote. No I/O.

A version ignores the fields that only a later one knows, and keeps them when it writes the document again. A field that
it does know has to be of its type. `unmix.job` says which documents there are.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Self, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic import TypeAdapter

#: The form of the documents that this version writes; 0 in those of versions before there was a number.
SCHEMA: Final = 1

#: What is the same in JSON.
_PLAIN: Final = frozenset({str, int, float, bool, NoneType})


@dataclass(frozen=True, slots=True)
class Growable:
    """A document, or an object within one."""

    #: Fields that a later version wrote: ignored, and kept.
    unknown: Mapping[str, Any] = field(default_factory=dict, compare=False, kw_only=True)

    def to_fields(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, the unknown ones included."""
        kind: type = type(self)
        return {**self.unknown, **{name: _plain(getattr(self, name)) for name in _names(kind)}}

    @classmethod
    def from_fields(cls, given: Mapping[str, Any]) -> Self:
        """Read one back whose fields need no conversion; each has to be of its type.

        Raises:
            ValueError, TypeError, AttributeError: it is none.
        """
        kind: type = cls
        types = _types(kind)
        known = {
            name: types[name].validate_python(value, strict=True) for name, value in given.items() if name in types
        }
        return cls(**known, unknown={name: value for name, value in given.items() if name not in types})


def load(data: bytes) -> Any:
    """Read JSON strictly: no NaN, no number beyond all bounds, no half of a character.

    Raises:
        ValueError, RecursionError: it is none.
    """
    value = json.loads(data, parse_constant=_finite, parse_float=_finite)
    json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate could be written nowhere
    return value


def with_tuples(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return fields of a document with those that are lists there as the tuples that they are here."""
    return {**given, **{name: tuple(given[name]) for name in names}}


def seconds_of(time: str) -> float:
    """Return a time of ISO 8601 as seconds since the epoch, 0 if it is none."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, TypeError):  # a time is for people: it stops no job
        return 0.0


@cache
def _names(kind: type["DataclassInstance"]) -> tuple[str, ...]:
    """Return the names of the fields of a document."""
    return tuple(each.name for each in fields(kind) if each.name != "unknown")


@cache
def _types(kind: type) -> dict[str, "TypeAdapter[Any]"]:
    """Return what checks each field of a document."""
    from pydantic import TypeAdapter  # here, as not all who make documents read any, and it takes its time to load

    return {name: TypeAdapter(hint) for name, hint in get_type_hints(kind).items() if name != "unknown"}


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number in JSON")
    return number


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN:  # most are, and a list of jobs has very many
        return value
    if isinstance(value, Growable):
        return value.to_fields()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value
