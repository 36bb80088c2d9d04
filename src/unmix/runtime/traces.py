"""Traces: where the time of a job goes, from the request that brought it to the last callback. Off by default.

With `UNMIX_TRACES` each process sends its spans to a receiver of OpenTelemetry's protocol. A job has one trace: its
context (W3C Trace Context) is in the request document, and whoever works on the job goes on with it. Only then is
anything of OpenTelemetry loaded, by `spans`; without it nothing here does anything. The child that separates sends
nothing, as it is told no address: what it does its worker times.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

from unmix.errors import InputError
from unmix.settings import Settings

if TYPE_CHECKING:
    from unmix.runtime.spans import Recorder

Given = ParamSpec("Given")
Result = TypeVar("Result")

#: Which side of a call a span is on, in OpenTelemetry's words.
Kind = Literal["internal", "server", "client", "consumer"]
#: What may be said of a span.
Fact = str | int | float | bool

_recorder: "Recorder | None" = None


def configure_traces(service: str, settings: Settings) -> None:
    """Have this process send its spans, if the settings name a receiver.

    Raises:
        InputError: they do, and what is needed for it is not installed (`traces_not_installed`).
    """
    global _recorder
    if not settings.traces:
        return
    try:
        from unmix.runtime.spans import Recorder
    except ImportError as error:
        text = "UNMIX_TRACES is set, and OpenTelemetry is not installed: install track-unmix with the extra 'traces'"
        raise InputError(text, code="traces_not_installed") from error
    _recorder = Recorder(service, settings.traces)


def are_on() -> bool:
    """Tell whether spans are sent."""
    return _recorder is not None


def span(
    name: str, *, within: str | None = None, kind: Kind = "internal", **facts: Fact
) -> AbstractContextManager[None]:
    """Time a block, as part of the span whose `traceparent` is `within`, or else of the one that is open here."""
    return nullcontext() if _recorder is None else _recorder.span(name, within=within, kind=kind, facts=facts)


def traced(name: str) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Time each call of a function, as part of the span that is open then."""

    def decorate(function: Callable[Given, Result]) -> Callable[Given, Result]:
        @wraps(function)
        def timed(*args: Given.args, **named: Given.kwargs) -> Result:
            with span(name):
                return function(*args, **named)

        return timed

    return decorate


def past(name: str, *, began_at: float, within: str | None = None, **facts: Fact) -> None:
    """Tell of what began at `began_at`, in seconds since the epoch, and has just ended."""
    if _recorder is not None:
        _recorder.past(name, began_at=began_at, within=within, facts=facts)


def note(**facts: Fact) -> None:
    """Say something of the span that is open here."""
    if _recorder is not None:
        _recorder.note(facts)


def current() -> str | None:
    """Return the `traceparent` of the span that is open here; None if there is none."""
    return None if _recorder is None else _recorder.current()
