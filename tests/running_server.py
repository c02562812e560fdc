"""A real `ride serve` in a process of its own, on a port of its own."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 30
_PATIENT = "--latency-objective-ms=600000"
"""However slow the machine, no answer is made cheaper unless a test wants it."""


@dataclass(frozen=True)
class RunningServer:
    """Where a server listens, its process and what it printed."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
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

    def connect(self) -> socket.socket:
        """A plain TCP connection, for what no HTTP client would send."""
        return socket.create_connection(self.address, timeout=20)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self.client.post(path, **request)

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.client.get(path, **request)


@contextmanager
def running_server(
    repository: Path, log: Path, flags: Sequence[str] = (), *, ready: bool = True
) -> Iterator[RunningServer]:
    """Start a server, wait until it is `ready`, or only listens, and stop it at the end."""
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
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    # A connection for each request: none that the server is about to close is used again.
    limits = httpx.Limits(max_keepalive_connections=0)
    try:
        url = _wait_until_announced(process, log)
        with httpx.Client(base_url=url, timeout=60, limits=limits) as client:
            response = client.get("/v2/health/ready")
            assert response.is_success is ready, f"is ready: {not ready}\n{log.read_text()}"
            yield RunningServer(client, process, log)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_announced(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{log.read_text()}")
        if announced := re.search(r"at (http://\S+)\n", log.read_text()):
            return announced[1]
        time.sleep(0.05)
    raise AssertionError(f"the server does not listen:\n{log.read_text()}")
