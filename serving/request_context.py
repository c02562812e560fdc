"""Which request the running code works for: its ids, for logs, traces and exemplars.

A transport enters it at the edge; whatever runs in the request's task finds it. Worker threads
don't: what they need of it is taken along with the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property

_LONGEST_EXEMPLAR = 128
"""Characters of names and values together; OpenMetrics allows no more."""


@dataclass(frozen=True)
class RequestContext:
    """A request's ids.

    Attributes:
        request_id: of `X-Request-ID`, or one made up here.
        trace_id: 32 hexadecimal digits, if the request is part of a sampled trace.
    """

    request_id: str
    trace_id: str | None = None

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
