"""What a failed call to a Triton server means for the request behind it."""

from __future__ import annotations

import re
from typing import Any

from serving.errors import (
    BackendFault,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    RequestTooLarge,
)

_LONGEST_SENTENCE = 300
_LOST = {"UNAVAILABLE", "CANCELLED", "NOT_FOUND"}
_CONNECTION_BROKE = ("RST_STREAM", "Stream removed", "Connection reset", "Socket closed")
_UNKNOWN_MODEL = "Request for unknown model"
_LATE_IN_QUEUE = "Request timeout expired"
_QUEUE_FULL = "Exceeds maximum queue size"
_MESSAGE_TOO_LARGE = "larger than max"

_WRAPPING = re.compile(
    r"\[[^\]]*\]\s*"  # [request id: <id_unknown>], [StatusCode.INVALID_ARGUMENT]
    r"|in ensemble '[^']*',\s*"
    r"|Failed to process the request\(s\) for model (?:instance )?'[^']*', message:\s*"
    r"|[\w.]*(?:Error|Exception):\s*"
)
_INSIDES = re.compile(r"Traceback|(?:^|[\s'\"(=])/\w[\w.-]*/|0x[0-9a-f]{4}")


class BackendLost(Exception):
    """The server is gone, or does not serve the model now: another one may answer."""


def error_of(failure: Any) -> Exception:
    """The error that an `InferenceServerException` stands for: a `RideError` or `BackendLost`."""
    code = (failure.status() or "").removeprefix("StatusCode.")
    text = failure.message() or ""
    if code == "DEADLINE_EXCEEDED" or _LATE_IN_QUEUE in text:
        return DeadlineExceeded()
    if code == "RESOURCE_EXHAUSTED" and _MESSAGE_TOO_LARGE in text:
        return RequestTooLarge("the request's images are more than Triton takes in one message")
    if code == "RESOURCE_EXHAUSTED" or _QUEUE_FULL in text:
        return Overloaded()
    if code in _LOST or _UNKNOWN_MODEL in text or _broke(code, text):
        return BackendLost(text)
    if code == "INVALID_ARGUMENT":
        return InvalidRequest(sentence(text))
    return BackendFault("the Triton server failed on this request; its log says why")


def sentence(text: str) -> str:
    """What a Triton error says to a client: without what Triton wraps it in, and in one line."""
    line = text.strip().partition("\n")[0].strip()
    while wrapping := _WRAPPING.match(line):
        line = line[wrapping.end() :]
    if not line or not line.isprintable() or _INSIDES.search(line):
        return "Triton refused the request"
    return line[:_LONGEST_SENTENCE]


def _broke(code: str, text: str) -> bool:
    return code in {"INTERNAL", "UNKNOWN"} and any(sign in text for sign in _CONNECTION_BROKE)
