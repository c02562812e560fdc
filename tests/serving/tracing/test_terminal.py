"""Lines from outside on a terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from serving.tracing.terminal import escaped, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold] größe.png", "plain [bold] größe.png"),
        ("red\x1b[31m", "red\\x1b[31m"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("bell\a, back\b, next\x85, right to left\u202e", None),
        ("no Unicode \udcff", "no Unicode \\udcff"),
    ],
)
def test_what_can_not_be_printed_is_written_as_an_escape(text: str, shown: str | None) -> None:
    assert escaped(text).isprintable()
    assert shown is None or escaped(text) == shown


@given(st.text())
@example(":warning:.png")
def test_a_line_stays_one_line_as_it_is(text: str) -> None:
    file = io.StringIO()
    say(Console(file=file, force_terminal=True, color_system="truecolor", width=20), text)
    assert file.getvalue() == f"{escaped(text)}\n"
