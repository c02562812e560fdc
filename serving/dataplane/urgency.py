"""What a request says of its urgency: Triton's parameters `priority` and `timeout`.

Source: the Triton Inference Server's protocol extension "schedule policy".
"""

from __future__ import annotations

import math
import time

from serving.engine.jobs import DEFAULT_PRIORITY, Urgency
from serving.errors import InvalidRequest

LAST_PRIORITY = 10
_MICROSECONDS = 1e6
_LONGEST_S = 86_400.0
"""No request lives longer, so more is the same as no deadline."""


def take_urgency(parameters: dict[str, object], time_left_s: float | None) -> Urgency:
    """Take `priority` and `timeout` out of a request's parameters.

    Priority 1 goes first and 10 (or more) last; 0, or none, is 5. The timeout is in microseconds;
    0, or none, is none. `time_left_s` is the transport's own deadline, seconds from now.

    Raises:
        InvalidRequest: if one of them is not a whole number from 0 on.
    """
    priority = _whole(parameters.pop("priority", 0), "priority")
    timeout = _whole(parameters.pop("timeout", 0), "timeout")
    left = min(
        timeout / _MICROSECONDS if timeout else math.inf,
        math.inf if time_left_s is None else time_left_s,
    )
    deadline = time.monotonic() + left if left < _LONGEST_S else math.inf
    return Urgency(deadline, min(priority, LAST_PRIORITY) or DEFAULT_PRIORITY)


def _whole(value: object, name: str) -> int:
    if type(value) is not int or value < 0:
        raise InvalidRequest(f"the parameter {name!r} must be a whole number, not negative")
    return value
