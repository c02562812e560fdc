"""`python -m benchmarks NAME`: studies of single questions, and the tools that measuring needs.

`ride bench` measures the server as a whole; these ask one question each. A study is a function that
yields the lines of its report; its flags are its parameters. It is imported when it is asked for,
as some need packages that others do without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module

import typer

from benchmarks.errors import BenchmarkError
from scoring.errors import ScoringError
from serving.errors import RideError
from training.errors import TrainingError

_STUDIES = {
    "audit-truth": "Does the audit of a running server find what is true of all images?",
    "decoding": "What does it cost to make a model's input of an uploaded image?",
    "graph-speed": "How fast do two exports of the same model run, graph by graph?",
    "metrics-cost": "What do metrics and the audit cost the server?",
    "results": "Train and measure the rows of docs/results.md.",
    "scoring": "How fast is ride score against bare ONNX Runtime, and what memory does it take?",
    "training-speed": "How fast does a preset train, as a share of the machine's peak?",
    "triton-report": "Where does Triton's time go?",
}
_TOOLS = {
    "install": "Install a program that measures, and say where it is.",
    "local-triton": "Start a Triton without Docker and tell where it listens, until Ctrl-C.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error that a user can mend is one sentence and exit status 1."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _app(asked=given[0] if given else "")(args=given, prog_name="python -m benchmarks")
    except (BenchmarkError, RideError, ScoringError, TrainingError) as error:
        sys.exit(f"benchmarks: {error}")


def _app(asked: str) -> typer.Typer:
    app = typer.Typer(
        help="Measure one thing; `ride bench` measures the whole.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",  # it fills lines again
        pretty_exceptions_enable=False,
    )
    app.callback(result_callback=_print)(lambda: None)
    for panel, commands in (("Studies", _STUDIES), ("Tools", _TOOLS)):
        for name, summary in commands.items():
            if name == asked:
                function = name.replace("-", "_")
                module = "tools" if name in _TOOLS else f"studies.{function}"
                work = getattr(import_module(f"benchmarks.{module}"), function)
                others = {"ignore_unknown_options": name == "local-triton"}  # they are Triton's
                app.command(name, context_settings=others)(work)
            else:
                app.command(name, help=summary, rich_help_panel=panel)(lambda: None)
    return app


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
