"""A server that shares memory, clients of it, and memory to share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import tritonclient.utils.shared_memory as shm

from tests.running.server import RunningServer, running_server
from tests.serving.dataplane.shared_memory.clients import FOLDER, SIZE, connected


@pytest.fixture(scope="session")
def sharing(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that reads and writes shared memory, inputs of at most 1 MiB."""
    log = tmp_path_factory.mktemp("sharing") / "log.txt"
    flags = ("--shared-memory", "--max-body-mib=1")
    with running_server(repository, log, flags) as running:
        yield running
        assert running.process.poll() is None
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, sharing: RunningServer) -> Iterator[Any]:
    with connected(sharing, request.param) as client:
        yield client
        client.unregister_system_shared_memory()


@pytest.fixture(params=["http", "grpc"])
def usual_client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    """Of a server without the flag."""
    with connected(server, request.param) as client:
        yield client


@pytest.fixture
def key() -> Iterator[str]:
    """The key of an object that is not made yet."""
    key = f"/ride_test_{uuid4().hex}"
    yield key
    (FOLDER / key[1:]).unlink(missing_ok=True)


@pytest.fixture
def handle(key: str) -> Iterator[Any]:
    """Shared memory of `SIZE` bytes under the key."""
    handle = shm.create_shared_memory_region("memory", key, SIZE)
    yield handle
    shm.destroy_shared_memory_region(handle)


@pytest.fixture
def memory(client: Any, handle: Any, key: str) -> Any:
    """The same, registered as `memory`."""
    client.register_system_shared_memory("memory", key, SIZE)
    return handle


@pytest.fixture
def registered(sharing: RunningServer, handle: Any, key: str) -> Iterator[RunningServer]:
    """The server once `memory` is registered."""
    with connected(sharing, "http") as client:
        client.register_system_shared_memory("memory", key, SIZE)
        yield sharing
        client.unregister_system_shared_memory()
