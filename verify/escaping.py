"""Text from outside, for terminals and pages: names of files, a server's sentences."""

from __future__ import annotations


def escaped(text: str) -> str:
    """The text in one line, with whatever can't be printed written as an escape."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
