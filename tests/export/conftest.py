"""A finished run of a short network, and the repository that it was exported to.

Whoever makes a model of the run marks its module with `short_networks`. Tracing a network takes
time for each of its layers; tests/e2e exports a whole one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from export.session import export_session
from tests.short_networks import shortened

CONSOLE = Console(quiet=True)


@pytest.fixture(scope="session")
def repository(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, exported once; copy it before changing anything in it."""
    target = tmp_path_factory.mktemp("exported") / "model_repository"
    with shortened():
        export_session(run, target, data=None, console=CONSOLE)
    return target
