"""Both servers that speak HTTP: the embedded one, and the one in front of Triton."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from serving.engine.graphs import Engine
from tests.running.server import RunningServer, running_server
from tests.serving.triton.scripted_triton import front_of_good_triton

PROXY_FLAGS = (
    "--root-path=/models/ride",
    "--cors-origin=https://shop.example",
    "--cors-origin=http://localhost:3000",
    "--max-body-mib=1",
)


@pytest.fixture(scope="session")
def front_behind_proxy(
    engine: Engine, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    log = tmp_path_factory.mktemp("front_behind_proxy") / "log.txt"
    with front_of_good_triton(engine.manifest, repository, log, PROXY_FLAGS) as running:
        yield running


@pytest.fixture(scope="session")
def server_behind_proxy(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    log = tmp_path_factory.mktemp("server_behind_proxy") / "log.txt"
    with running_server(repository, log, PROXY_FLAGS) as running:
        yield running


@pytest.fixture
def own_server(repository: Path, tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Starts an embedded server with flags of a test's own."""
    with ExitStack() as stack:

        def start(*flags: str) -> RunningServer:
            return stack.enter_context(running_server(repository, tmp_path / "log.txt", flags))

        yield start


@pytest.fixture(params=["server", "front"])
def either(request: pytest.FixtureRequest) -> RunningServer:
    """The embedded server, then the one in front of Triton."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, RunningServer)
    return found


@pytest.fixture(params=["server_behind_proxy", "front_behind_proxy"])
def behind_proxy(request: pytest.FixtureRequest) -> RunningServer:
    """Both, started with `PROXY_FLAGS`."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, RunningServer)
    return found
