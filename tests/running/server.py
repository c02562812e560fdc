"""A real `ride serve` in a process of its own, on a port of its own."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.running.process import Process, assert_runs, running
from tests.running.waiting import WAIT_S, wait_until

_PATIENT = "--latency-objective-ms=600000"
"""However slow the machine, no answer is made cheaper unless a test wants it."""


@dataclass(frozen=True)
class RunningServer:
    """Where a server listens, its process and what it printed."""

    client: httpx.Client
    process: Process
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        url = self.client.base_url
        assert url.port is not None
        return url.host, url.port

    @property
    def url(self) -> str:
        host, port = self.address
        return f"http://{host}:{port}"

    @property
    def grpc_address(self) -> str:
        announced = re.search(r"^gRPC: port (\d+)$", self.log.read_text(), re.MULTILINE)
        assert announced, "the server serves no gRPC"
        return f"{self.address[0]}:{announced[1]}"

    def samples(self) -> dict[str, float]:
        """The values of its metrics by name and labels, as they stand in the text."""
        lines = (line.rpartition(" ") for line in self.get("/metrics").text.splitlines())
        return {name: float(value) for name, _, value in lines if not name.startswith("#")}

    def connect(self) -> socket.socket:
        """A plain TCP connection, for what no HTTP client would send."""
        return socket.create_connection(self.address, timeout=WAIT_S)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self.client.post(path, **request)

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.client.get(path, **request)


@contextmanager
def running_server(
    repository: Path,
    log: Path,
    flags: Sequence[str] = (),
    *,
    ready: bool = True,
    telltale: str = "Traceback",
) -> Iterator[RunningServer]:
    """Start a server, wait until it is `ready`, or only listens, and stop it at the end.

    Its log must not hold the `telltale` then.
    """
    command = [
        sys.executable,
        "-m",
        "ride",
        "serve",
        str(repository),
        "--port=0",
        "--grpc-port=0",
        _PATIENT,
        *flags,
    ]
    # A connection for each request: none that the server is about to close is used again.
    limits = httpx.Limits(max_keepalive_connections=0)
    with running(command, log) as process:
        url = announced(process, log)
        with httpx.Client(base_url=url, timeout=WAIT_S, limits=limits) as client:
            response = client.get("/v2/health/ready")
            assert response.is_success is ready, f"is ready: {not ready}\n{log.read_text()}"
            yield RunningServer(client, process, log)
    assert telltale not in log.read_text(), log.read_text()


def announced(process: Process, log: Path) -> str:
    """Where it says that it listens."""

    def found() -> re.Match[str] | None:
        assert_runs(process, log)
        return re.search(r"at (http://\S+)\n", log.read_text())

    wait_until(lambda: found() is not None)
    announced = found()
    assert announced
    return announced[1]
