"""W3C trace context: which trace a request is part of, as its headers say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
_LONGEST_STATE = 512
"""What the recommendation wants kept at least; longer ones are dropped whole, as it allows."""
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_STATE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True)
class TraceContext:
    """A span of a trace, the parent of what is done for it.

    Attributes:
        trace_id: 32 hexadecimal digits, not all zero.
        span_id: 16 of them, not all zero.
        sampled: whether whoever began the trace keeps it.
        state: of other tracing systems, handed on as it came; at most 512 characters.
    """

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> TraceContext | None:
        """What headers with lower-case names say; None where they say nothing valid."""
        found = _PARENT.fullmatch(headers.get(TRACEPARENT, ""))
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if (
            version == "ff"
            or (version == "00" and more)
            or not (trace_id.strip("0") and span_id.strip("0"))
        ):
            return None
        state = headers.get(TRACESTATE, "")
        valid = len(state) <= _LONGEST_STATE and _STATE.fullmatch(state)
        return cls(trace_id, span_id, bool(int(flags, 16) & 1), state if valid else "")

    @property
    def headers(self) -> dict[str, str]:
        """What another server is told, so that its spans become children of this one."""
        headers = {TRACEPARENT: f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"}
        return headers | {TRACESTATE: self.state} if self.state else headers
