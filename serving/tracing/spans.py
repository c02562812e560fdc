"""Requests as OpenTelemetry spans, sent in the background to a collector over OTLP/HTTP.

Imported only where tracing is switched on. The standard variables set it up: where to
(`OTEL_EXPORTER_OTLP_ENDPOINT`), how many (`OTEL_TRACES_SAMPLER`), by what name
(`OTEL_SERVICE_NAME`). docs/tracing.md lists the spans.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from importlib.metadata import version as distribution_version

from serving.errors import SettingsError
from serving.tracing.timeline import Attribute, Timeline
from serving.tracing.trace_context import TraceContext

try:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ImportError as error:
    raise SettingsError(
        f"tracing needs packages that are not installed ({error.name}): "
        "pip install 'ride-server[tracing]'"
    ) from None

_NAME = "ride-server"
_LAST_SENDING_S = 3.0


class Tracer:
    """Makes spans of requests and sends them."""

    def __init__(self) -> None:
        """As the environment says.

        Raises:
            SettingsError: if that makes no sense.
        """
        version = distribution_version(_NAME)
        ours = Resource.create({"service.name": _NAME, "service.version": version})
        resource = ours.merge(OTELResourceDetector().detect())
        try:
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except ValueError as error:
            raise SettingsError(f"an OTEL_ variable is wrong: {error}") from None
        self._tracer = self._provider.get_tracer(_NAME, version)

    def begin(self, parent: TraceContext | None, start: float) -> RequestSpan:
        """The span of a request, as part of its client's trace if it has one.

        `start` is of `time.monotonic()`, as all times here.
        """
        context = trace.set_span_in_context(_remote(parent)) if parent else None
        clock = _WallClock()
        span = self._tracer.start_span(
            "request", context, trace.SpanKind.SERVER, start_time=clock.nanoseconds(start)
        )
        return RequestSpan(self._tracer, span, clock)

    def close(self) -> None:
        """Send what is left; a collector that does not answer can't keep the process for long."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_LAST_SENDING_S)


class RequestSpan:
    """A request's span, and its steps as children of it.

    Attributes:
        context: the span, for its children elsewhere.
        timeline: where to note its steps; None if the trace is not sampled.
    """

    def __init__(self, tracer: trace.Tracer, span: trace.Span, clock: _WallClock) -> None:
        self._tracer = tracer
        self._span = span
        self._clock = clock
        ids = span.get_span_context()
        self.context = TraceContext(
            trace.format_trace_id(ids.trace_id),
            trace.format_span_id(ids.span_id),
            ids.trace_flags.sampled,
            ids.trace_state.to_header(),
        )
        self.timeline = Timeline() if span.is_recording() else None

    def end(
        self, name: str, attributes: Mapping[str, Attribute], end: float, *, failed: bool
    ) -> None:
        """The request is answered; `failed` if that is the server's fault."""
        if self.timeline is None:
            return
        context = trace.set_span_in_context(self._span)
        for step in self.timeline.steps:
            child = self._tracer.start_span(
                step.name,
                context,
                attributes=step.attributes,
                start_time=self._clock.nanoseconds(step.start),
            )
            child.end(self._clock.nanoseconds(step.end))
        self._span.update_name(name)
        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end(self._clock.nanoseconds(end))


class _WallClock:
    """Turns times of `time.monotonic()` into those that spans have, nanoseconds since 1970."""

    def __init__(self) -> None:
        self._difference = time.time() - time.monotonic()

    def nanoseconds(self, monotonic: float) -> int:
        return int((monotonic + self._difference) * 1e9)


def _remote(parent: TraceContext) -> trace.Span:
    return trace.NonRecordingSpan(
        trace.SpanContext(
            int(parent.trace_id, 16),
            int(parent.span_id, 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(int(parent.sampled)),
            trace_state=trace.TraceState.from_header([parent.state]),
        )
    )
