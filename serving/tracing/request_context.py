"""Which request the running code works for: its ids, for logs, traces and exemplars.

A transport enters it at the edge; whatever runs in the request's task finds it. Worker threads
don't: what they need of it is taken along with the request.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serving.tracing.timeline import Attribute, Timeline
from serving.tracing.trace_context import TraceContext

_LONGEST_EXEMPLAR = 128
"""Characters of names and values together; OpenMetrics allows no more."""


class RoutingSummary:
    """How a request's images were routed, as far as it is known.

    Attributes:
        experts_used: int32 [N], of its images, once they are answered.
        degraded: whether they were answered for less than was asked for.
    """

    def __init__(self) -> None:
        self.experts_used: NDArray[np.int32] | None = None
        self.degraded = False


@dataclass(frozen=True)
class RequestContext:
    """A request's ids, and what is noted of it.

    Attributes:
        request_id: of `X-Request-ID`, or one made up here.
        trace_id: 32 hexadecimal digits, if the request is part of a sampled trace.
        trace: what a server that is asked on its behalf is told.
        timeline: where its steps are noted; None if it is not traced here.
        routing: of its images.
    """

    request_id: str
    trace_id: str | None = None
    trace: TraceContext | None = None
    timeline: Timeline | None = None
    routing: RoutingSummary = field(default_factory=RoutingSummary)

    @cached_property
    def exemplar(self) -> dict[str, str] | None:
        """The labels by which a metric points to this request; None where they'd be too long."""
        if self.trace_id is not None:
            return {"trace_id": self.trace_id}
        if len("request_id") + len(self.request_id) > _LONGEST_EXEMPLAR:
            return None
        return {"request_id": self.request_id}


_current: ContextVar[RequestContext | None] = ContextVar("request_context", default=None)


def current_request() -> RequestContext | None:
    """The request that this task works for; None outside of any."""
    return _current.get()


@contextmanager
def working_for(request: RequestContext) -> Iterator[None]:
    """Everything in the block, and the tasks that it starts, works for this request."""
    token = _current.set(request)
    try:
        yield
    finally:
        _current.reset(token)


def exemplar_of_request() -> dict[str, str] | None:
    """The current request's exemplar, if there is a request."""
    request = _current.get()
    return None if request is None else request.exemplar


def note_step(name: str, start: float, **attributes: Attribute) -> None:
    """A step of the current request ends now; it began at `start` of `time.monotonic()`."""
    request = _current.get()
    if request is not None and request.timeline is not None:
        request.timeline.add(name, start, time.monotonic(), **attributes)


def note_answer(experts_used: NDArray[np.int32], *, degraded: bool) -> None:
    """The current request's images, N of them, are answered."""
    request = _current.get()
    if request is not None:
        request.routing.experts_used, request.routing.degraded = experts_used, degraded
