"""Spans by OpenTelemetry's SDK, sent by HTTP in the background; the only importer of that SDK.

`unmix.runtime.traces` loads it where traces are asked for. What else can be set, such as the headers of the receiver or
how many traces are kept, the SDK reads from variables of its own. Nothing ever waits for the receiver.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from unmix.errors import UnmixError

_NS: Final = 10**9
_CONTEXTS: Final = TraceContextTextMapPropagator()


class Recorder:
    """Sends the spans of this process to the receiver at `url`, those that are left when the process ends too."""

    def __init__(self, service: str, url: str) -> None:
        resource = Resource.create({"service.name": f"unmix-{service}", "service.version": version("track-unmix")})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("unmix")

    def flush(self) -> None:
        """Send what has not been sent yet, and wait for that."""
        self._provider.force_flush()

    @contextmanager
    def span(
        self, name: str, *, within: str | None, kind: str, facts: Mapping[str, str | int | float]
    ) -> Iterator[None]:
        """See `traces.span`. Of an error only its code is told: its text and its stack are for the log."""
        with self._tracer.start_as_current_span(
            name,
            context=_context(within),
            kind=SpanKind[kind.upper()],
            attributes=_attributes(facts),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except Exception as error:
                code = error.code if isinstance(error, UnmixError) else type(error).__name__
                span.set_status(StatusCode.ERROR, code)
                raise

    def past(self, name: str, *, began_at: float, within: str | None, facts: Mapping[str, str | int | float]) -> None:
        """See `traces.past`."""
        span = self._tracer.start_span(
            name, context=_context(within), attributes=_attributes(facts), start_time=round(began_at * _NS)
        )
        span.end()

    def note(self, facts: Mapping[str, str | int | float]) -> None:
        """See `traces.note`."""
        trace.get_current_span().set_attributes(_attributes(facts))

    def current(self) -> str | None:
        """See `traces.current`."""
        said: dict[str, str] = {}
        _CONTEXTS.inject(said)
        return said.get("traceparent")


def _context(within: str | None) -> Context | None:
    """Return what a span is part of; None: the one that is open here. What is no `traceparent` begins a new trace."""
    return None if within is None else _CONTEXTS.extract({"traceparent": within}, context=Context())


def _attributes(facts: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    return {f"unmix.{name}": value for name, value in facts.items()}
