"""A real Triton in a process of its own, on ports of its own."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.local_triton.install import install
from benchmarks.local_triton.launch import Ports, triton_start
from benchmarks.ports import free_ports
from tests.running.process import Process, assert_runs, start, stop
from tests.running.waiting import wait_until


class RunningTriton:
    """Triton on a model repository; it can be killed and started again on the same ports."""

    def __init__(self, repository: Path, folder: Path, flags: Sequence[str] = ()) -> None:
        self.ports = Ports(*free_ports(3))
        self.log = folder / "triton.log"
        self._start = triton_start(install(), repository, folder, self.ports, flags)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def http_address(self) -> str:
        return f"127.0.0.1:{self.ports.http}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def metrics(self) -> str:
        """The text of /metrics."""
        return httpx.get(f"http://127.0.0.1:{self.ports.metrics}/metrics").text

    def start(self) -> None:
        """Start, and wait until every model is ready."""
        process = start(self._start.command, self.log, self._start.environment, own_group=True)
        self._process = process

        def ready() -> bool:
            assert_runs(process, self.log)
            try:
                return httpx.get(f"{self.url}/v2/health/ready").is_success
            except httpx.TransportError:
                return False

        wait_until(ready)

    def kill(self) -> None:
        """End it at once, with the processes of its models, and free what that leaves behind."""
        left = _shared_memory(self.pid)
        self._signal(signal.SIGKILL)
        for name in left:
            Path(name).unlink(missing_ok=True)

    def stop(self) -> None:
        """End it as an operator does."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            stop(process, number, own_group=True)


@contextmanager
def running_triton(
    repository: Path, folder: Path, flags: Sequence[str] = ()
) -> Iterator[RunningTriton]:
    """Start Triton, wait until it is ready, and stop it at the end."""
    triton = RunningTriton(repository, folder, flags)
    try:
        triton.start()
        yield triton
    finally:
        triton.stop()


def _shared_memory(group: int) -> set[str]:
    """Files in /dev/shm that processes of a group have mapped."""
    found: set[str] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                found.update(re.findall(r"/dev/shm/\S+", (folder / "maps").read_text()))
        except (ProcessLookupError, OSError):
            continue  # it ended meanwhile
    return found
