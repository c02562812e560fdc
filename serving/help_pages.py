"""`--help` that can be read at 80 columns: an option a paragraph, in panels by subject."""

from __future__ import annotations

import importlib.metadata
import inspect
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from serving.options import MOST_USED

_PACKAGE = "ride-server"
_WIDEST = 100
_ARGUMENTS = "Arguments"
_OTHERS = "Other"
_EXAMPLE = "Example: "


class CommandWithHelpPage(TyperCommand):
    """A command whose help is a page to read, with examples that can be pasted."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, description, examples, and the options panel by panel."""
        width = min(_WIDEST, shutil.get_terminal_size().columns)
        formatter.write("\n".join(self._lines(ctx, width)) + "\n")

    def _lines(self, ctx: Any, width: int) -> Iterator[str]:
        yield from textwrap.wrap(self.get_usage(ctx), width, subsequent_indent=" " * 7)
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            yield ""
            text = " ".join(paragraph.split())
            if text.startswith(_EXAMPLE):
                yield from _example(text.removeprefix(_EXAMPLE), width)
            else:
                yield from _wrapped(text, width, 0)
        for panel, options in _panels(self.get_params(ctx)).items():
            yield ""
            yield typer.style(f"{panel}:", bold=True)
            for each in options:
                yield from _option(each, ctx, width)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"ride {importlib.metadata.version(_PACKAGE)}")
        raise typer.Exit


def with_version(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version, and stop.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options of `ride` itself."""


def _panels(options: list[Any]) -> dict[str, list[Any]]:
    """Options by their panels: arguments, what is most used, then as they are declared."""
    panels: dict[str, list[Any]] = {_ARGUMENTS: [], MOST_USED: []}
    for each in options:
        usual = _ARGUMENTS if each.param_type_name == "argument" else _OTHERS
        panels.setdefault(getattr(each, "rich_help_panel", None) or usual, []).append(each)
    others = panels.pop(_OTHERS, [])  # --help, as a rule
    return {panel: some for panel, some in (panels | {_OTHERS: others}).items() if some}


def _option(option: Any, ctx: Any, width: int) -> Iterator[str]:
    names, text = option.get_help_record(ctx)
    about = option.help or ""
    if len(names) + 2 > width:
        names = names.replace("|", " | ")  # many choices, over several lines
    yield from _wrapped(names, width, 2)
    yield from _wrapped(about, width, 6)
    yield from _wrapped(text[len(about) :].strip(), width, 6)


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _example(command: str, width: int) -> Iterator[str]:
    """In lines that a shell reads as one."""
    words = shlex.split(command, posix=False)
    line = "  $"
    for word in words:
        if len(line) + len(word) + 3 > width:
            yield f"{line} \\"
            line = "     "
        line += f" {word}"
    yield line
