"""Lines of the log, whatever a client makes us say."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.tracing.logs import LogFormat, log_to_standard_error
from serving.tracing.request_context import RequestContext, working_for


@pytest.fixture(scope="module", autouse=True)
def loggers_as_before() -> Iterator[None]:
    names = ("serving", "uvicorn", "opentelemetry")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each.handlers, each.propagate, each.level) for each in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def line(log_format: LogFormat, message: str, error: Exception | None = None) -> str:
    log_to_standard_error(log_format)
    (handler,) = logging.getLogger("serving").handlers
    info: Any = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("serving", logging.ERROR, __file__, 1, message, (), info)
    return handler.format(record)


@given(st.text())
def test_a_message_is_one_line_of_harmless_characters(message: str) -> None:
    text = line(LogFormat.TEXT, message)
    assert text.startswith("ERROR:    ")
    assert len(text.splitlines()) == 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text)
    text.encode()
    assert json.loads(line(LogFormat.JSON, message))["message"] == message


@given(st.text())
def test_a_traceback_forges_no_line(message: str) -> None:
    try:
        raise ValueError(message)
    except ValueError as error:
        first, *others = line(LogFormat.TEXT, "it failed", error).split("\n")
        told = json.loads(line(LogFormat.JSON, "it failed", error))
    assert first == "ERROR:    it failed"
    assert all(each.startswith("    ") for each in others)
    assert others[0] == "    Traceback (most recent call last):"
    assert told["exception"].startswith("Traceback")


def test_code_that_works_for_a_request_names_it() -> None:
    with working_for(RequestContext("abc", "f" * 32)):
        assert line(LogFormat.TEXT, "hello") == "ERROR:    hello [abc]"
        told = json.loads(line(LogFormat.JSON, "hello"))
    assert (told["request_id"], told["trace_id"]) == ("abc", "f" * 32)
    assert told["level"] == "error"
    assert "request_id" not in json.loads(line(LogFormat.JSON, "hello"))


def test_lines_go_to_standard_error() -> None:
    log_to_standard_error(LogFormat.JSON)
    (handler,) = logging.getLogger("uvicorn").handlers
    assert isinstance(handler, logging.StreamHandler)
    assert handler.stream is sys.stderr
