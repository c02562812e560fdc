"""Lines on standard error, as text or as JSON objects; clients' bytes can't forge any.

Every line of code that works for a request has the request's id, and the trace's.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from serving.tracing.request_context import current_request

_LOGGERS = ("serving", "uvicorn", "opentelemetry")
"""Ours and those of libraries with something to say. gRPC's bad messages would fill the log."""

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""What starts lines, moves cursors or turns text round on a terminal."""


class LogFormat(StrEnum):
    """How lines look."""

    TEXT = "text"
    JSON = "json"


def log_to_standard_error(log_format: LogFormat) -> None:
    """Let this process's lines go there, from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if log_format is LogFormat.JSON else _TextFormatter())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)


class _TextFormatter(logging.Formatter):
    """`LEVEL:     message [request id]`; what follows on further lines is indented."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{record.levelname + ':':<9} {_escaped(record.getMessage())}"
        if (request := current_request()) is not None:
            line += f" [{request.request_id}]"
        if record.exc_info:
            traceback = self.formatException(record.exc_info).splitlines()
            line += "".join(f"\n    {_escaped(each)}" for each in traceback)
        return line


class _JsonFormatter(logging.Formatter):
    """One object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := current_request()) is not None:
            line["request_id"] = request.request_id
            if request.trace_id is not None:
                line["trace_id"] = request.trace_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
