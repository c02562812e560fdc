"""The `ride` command: finds each subcommand, which lives beside what it does.

All that it needs is imported inside functions: so Ctrl-C ends it in order from the start.
"""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

STOPPED = 130
"""The exit status that a shell expects of a command that Ctrl-C ended."""

_EXTRAS = {
    "fsspec": "score",
    "pyarrow": "score",
    "ray": "ray",
    "torch": "train",
    "torchvision": "train",
    "tensorboard": "train",
    "onnx": "train",
    "onnxscript": "train",
    "matplotlib": "train",
    "jinja2": "train",
}
"""The extra that brings a package, by the package's name."""

_PARAMETERS = re.compile(r"(?:the parameter )?'?\b(max_experts|threshold|quality|top_k)\b'?")
"""As messages to clients name what commands take as flags."""


def command_line() -> typer.Typer:
    """The command with all of its subcommands."""
    import typer

    from benchmarks import commands as benchmark_commands
    from export import commands as export_commands
    from scoring import commands as scoring_commands
    from serving import commands as serving_commands
    from serving.audit import commands as audit_commands
    from serving.help_pages import CommandWithHelpPage, with_version
    from training import commands as training_commands
    from verify import commands as verify_commands

    app = typer.Typer(
        help="Image classification with dynamic expert routing (RIDE): train, export, serve, "
        "score, measure.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(with_version)
    for panel, commands in {
        "Train": (training_commands.train, training_commands.evaluate, training_commands.route),
        "Export": (export_commands.export, verify_commands.verify),
        "Serve": (serving_commands.serve, serving_commands.classify, audit_commands.calibrate),
        "Score": (scoring_commands.score, scoring_commands.compare),
        "Measure": (benchmark_commands.bench,),
    }.items():
        for command in commands:
            app.command(cls=CommandWithHelpPage, rich_help_panel=panel)(command)
    return app


def main() -> None:
    """Run a subcommand; an error that a user can mend is one sentence and exit status 1."""
    try:
        _write_what_a_terminal_lacks()
        _run()
    except KeyboardInterrupt:
        sys.exit(STOPPED)


def _write_what_a_terminal_lacks() -> None:
    """As an escape, where a terminal or file has no such character, or a name is not Unicode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run() -> None:
    from benchmarks.errors import BenchmarkError
    from scoring.errors import ScoringError
    from serving.errors import InvalidRequest, RideError
    from training.errors import TrainingError

    try:
        command_line()()
    except InvalidRequest as error:
        _fail(_PARAMETERS.sub(_flag, str(error)))
    except (RideError, ScoringError, TrainingError, BenchmarkError) as error:
        _fail(str(error))
    except OSError as error:  # a full disk, a folder that may not be written
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        _fail(
            f"this command needs the package {error.name}, which serving does without: "
            f"pip install 'ride-server[{extra}]'"
        )


def _flag(parameter: re.Match[str]) -> str:
    return f"--{parameter[1].replace('_', '-')}"


def _fail(message: str) -> None:
    from serving.tracing.terminal import escaped

    print(f"ride: {escaped(message)}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
