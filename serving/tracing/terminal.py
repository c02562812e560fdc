"""Text from outside, such as names of files, on terminals, in logs and on pages."""

from __future__ import annotations

from rich.console import Console


def escaped(text: str) -> str:
    """The text in one line, with whatever can't be printed written as an escape."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def say(console: Console, text: str) -> None:
    """Print a line as it is: a path may hold brackets, and a command is copied in one piece."""
    console.print(escaped(text), markup=False, emoji=False, highlight=False, soft_wrap=True)
