"""What tests of several packages share: the command, the bundled model, a server, made-up data."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running_server import RunningServer, running_server


@pytest.fixture(scope="session")
def repository() -> Path:
    """The bundled model's."""
    return Path(__file__).parents[1] / "model_repository"


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server as anyone starts it."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with running_server(repository, log) as running:
        yield running
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="session")
def run_ride() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command to its end."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ride", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run
