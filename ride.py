"""The `ride` command: finds each subcommand, which lives beside what it does."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from benchmarks import commands as benchmark_commands
from benchmarks.errors import BenchmarkError
from export import commands as export_commands
from scoring import commands as scoring_commands
from scoring.errors import ScoringError
from serving import commands as serving_commands
from serving.audit import commands as audit_commands
from serving.errors import RideError
from serving.help_pages import CommandWithHelpPage
from training import commands as training_commands
from training.errors import TrainingError
from verify import commands as verify_commands

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

app = typer.Typer(
    help="Image classification with dynamic expert routing (RIDE): train, export, serve, score, "
    "measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Train": (training_commands.train, training_commands.evaluate, training_commands.route),
    "Export": (export_commands.export, verify_commands.verify),
    "Serve": (serving_commands.serve, serving_commands.classify, audit_commands.calibrate),
    "Score": (scoring_commands.score, scoring_commands.compare),
    "Measure": (benchmark_commands.bench,),
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(cls=CommandWithHelpPage, rich_help_panel=panel)(command)


def main() -> None:
    """Run a subcommand; an error that a user can mend is one sentence and exit status 1."""
    try:
        app()
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


def _fail(message: str) -> None:
    print(f"ride: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
