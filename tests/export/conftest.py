"""A finished run of a short network, and the repository that it was exported to.

Whoever makes a model of the run marks its module with `short_networks`. Tracing a network takes
time for each of its layers; tests/e2e exports a whole one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from export.session import export_session
from tests.export.fitted_run import fitted_run
from tests.short_networks import shortened
from training.checkpoint import Checkpoint, save_checkpoint

CONSOLE = Console(quiet=True)


@pytest.fixture(scope="session")
def finished(cifar10_folder: Path) -> Checkpoint:
    """Two experts that are right about nearly every test image."""
    with shortened():
        return fitted_run(cifar10_folder)


@pytest.fixture(scope="session")
def run(finished: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder."""
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint(finished, folder)
    return folder


@pytest.fixture(scope="session")
def repository(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, exported once; copy it before changing anything in it."""
    target = tmp_path_factory.mktemp("exported") / "model_repository"
    with shortened():
        export_session(run, target, data=None, console=CONSOLE)
    return target
