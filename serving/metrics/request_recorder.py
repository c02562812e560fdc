"""What is kept of every request, whatever its transport: counts, and logs and traces if wanted."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from serving.metrics.requests import RequestMetrics
from serving.tracing.request_context import RequestContext, working_for
from serving.tracing.request_ids import REQUEST_ID, request_id
from serving.tracing.timeline import Attribute
from serving.tracing.trace_context import TRACEPARENT, TRACESTATE, TraceContext

if TYPE_CHECKING:
    from serving.tracing.spans import RequestSpan, Tracer  # its packages need not be installed

HEADERS = (REQUEST_ID, TRACEPARENT, TRACESTATE)
"""What transports pass on to a recorder."""

access_logger = logging.getLogger("serving.access")


class RequestRecorder:
    """Counts and times requests, logs and traces them where that is switched on."""

    def __init__(
        self, metrics: RequestMetrics, tracer: Tracer | None = None, *, access_log: bool = False
    ) -> None:
        self.metrics = metrics
        self.tracer = tracer
        self.access_log = access_log

    def record(
        self, protocol: str, name: str, headers: Mapping[str, str], *, brings_work: bool = True
    ) -> RequestRecord:
        """A request, for the length of a `with` block.

        Probes and scrapes, which bring no work, come all the time and take next to none: they are
        counted, but their times would hide what clients wait, and their traces show nothing.

        Args:
            protocol: `http` or `grpc`.
            name: of what is called, for people.
            headers: those of `HEADERS`, with lower-case names.
            brings_work: whether to time and trace it.
        """
        return RequestRecord(self, protocol, name, headers, brings_work=brings_work)


class RequestRecord:
    """One request.

    Attributes:
        name: of what is called, for people.
        request: its ids.
    """

    def __init__(
        self,
        recorder: RequestRecorder,
        protocol: str,
        name: str,
        headers: Mapping[str, str],
        *,
        brings_work: bool,
    ) -> None:
        self.name = name
        self._span_name = name
        self._code = ""
        self._failed = False
        self._attributes: Mapping[str, Attribute] = {}
        self._recorder = recorder
        self._protocol = protocol
        self._brings_work = brings_work
        self._start = time.monotonic()
        trace = TraceContext.read(headers) if headers else None
        self._span: RequestSpan | None = None
        if recorder.tracer is not None and brings_work:
            self._span = recorder.tracer.begin(trace, self._start)
            trace = self._span.context
        self.request = RequestContext(
            request_id(headers),
            trace.trace_id if trace is not None and trace.sampled else None,
            trace,
            None if self._span is None else self._span.timeline,
        )
        self._working = working_for(self.request)

    @property
    def traced(self) -> bool:
        """Whether somebody will see what `describe` says."""
        return self.request.timeline is not None

    def describe(self, span_name: str, attributes: Mapping[str, Attribute]) -> None:
        """How its span is called, of which there must not be too many names, and what it tells."""
        self._span_name, self._attributes = span_name, attributes

    def answered(self, code: str, *, failed: bool) -> None:
        """With this status; `failed` if that means a fault of the server."""
        self._code, self._failed = code, failed

    def __enter__(self) -> Self:
        self._working.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end = time.monotonic()
        duration_s = end - self._start
        timed = duration_s if self._brings_work else None
        self._recorder.metrics.observe(self._protocol, self._code, timed)
        if self._span is not None:
            self._end_span(self._span, end)
        if self._recorder.access_log:
            self._log(duration_s)
        self._working.__exit__(None, None, None)

    def _end_span(self, span: RequestSpan, end: float) -> None:
        if (timeline := self.request.timeline) is not None and timeline.steps:
            first = min(step.start for step in timeline.steps)
            last = max(step.end for step in timeline.steps)
            timeline.add("receive", self._start, max(first, self._start))
            timeline.add("respond", last, end)
        attributes = {
            **self._attributes,
            "ride.request_id": self.request.request_id,
            **{f"ride.{name}": value for name, value in self._of_images().items()},
        }
        span.end(self._span_name, attributes, end, failed=self._failed)

    def _of_images(self) -> dict[str, Attribute]:
        routing = self.request.routing
        if routing.experts_used is None:
            return {}
        return {
            "images": len(routing.experts_used),
            "experts": int(routing.experts_used.sum()),
            "degraded": routing.degraded,
        }

    def _log(self, duration_s: float) -> None:
        fields: dict[str, Attribute] = {"status": self._code}
        fields |= {"duration_ms": round(1_000 * duration_s, 3)}
        fields |= self._of_images()
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        access_logger.info(
            "%s %s", self.name, words, extra={"fields": {"request": self.name, **fields}}
        )
