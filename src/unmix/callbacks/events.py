"""Which ends of a job a callback asks for, as clients and other producers say it."""

from typing import Any, Final

from unmix.errors import InputError
from unmix.job import JobStatus

#: What there is to choose from.
ENDS: Final = tuple(status.value for status in JobStatus if status.is_over)


def read_events(given: Any) -> tuple[str, ...]:
    """Read `events` of a callback, in an order of our own; none are all.

    Raises:
        InputError: it is no list of ends, or one that would never be called (`invalid_field`).
    """
    if given is None:
        return ()
    if not isinstance(given, list) or not given or not all(isinstance(each, str) and each in ENDS for each in given):
        raise InputError(f"events of a callback is a list out of: {', '.join(ENDS)}", code="invalid_field")
    return tuple(end for end in ENDS if end in given) if set(given) != set(ENDS) else ()
