"""The `ride` command. Each subcommand lives beside what it does; this file only finds it."""

from __future__ import annotations

import sys

import typer

from training import commands as training_commands
from training.errors import TrainingError

app = typer.Typer(
    help="Image classification with dynamic expert routing (RIDE).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
@app.callback()
def _ride() -> None:
    pass


app.command()(training_commands.train)


def main() -> None:
    """Run a subcommand; an error that a user can mend is one sentence and exit status 1."""
    try:
        app()
    except TrainingError as error:
        print(f"ride: {error}", file=sys.stderr)
        sys.exit(1)
if __name__ == "__main__":
    main()
