"""One interface to every server that is measured: how it is installed, started and asked.

Each server has a `ServerSpec`, in `ride.py`, `triton.py` or `catalogue.py`; those that need code of
their own have it in a file `.._app.py` beside it, which runs in the server's own environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.checkout import CHECKOUT, TOOLS
from benchmarks.environments import environment
from benchmarks.errors import ServerFailed
from benchmarks.http_load import Endpoint, allow_many_files
from benchmarks.images import SampleImages
from benchmarks.perf_analyzer import Protocol
from benchmarks.ports import free_ports
from benchmarks.program import Start, last_line
from serving.engine.cores import usable_cores

REPOSITORY_VARIABLE = "RIDE_BENCH_REPOSITORY"
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 20


@dataclass(frozen=True)
class LaunchContext:
    """Where a server runs.

    Attributes:
        python: the interpreter with the server's packages.
        repository: the model repository.
        folder: an empty folder of its own.
        port: for HTTP.
        grpc_port: for gRPC.
        metrics_port: for a server that keeps its metrics apart.
        cores: that the machine has.
    """

    python: Path
    repository: Path
    folder: Path
    port: int
    grpc_port: int
    metrics_port: int
    cores: int

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "log.txt"


@dataclass(frozen=True)
class HttpWay:
    """Asking by plain HTTP: the path, the headers, and what a request's body is."""

    path: str
    bodies: Callable[[SampleImages], list[bytes]]
    headers: Mapping[str, str] = field(default_factory=dict)

    def endpoint(self, server: Running) -> Endpoint:
        """Where this leads on a running server."""
        return Endpoint(server.port, self.path, self.headers)


@dataclass(frozen=True)
class ProtocolWay:
    """Asking by perf_analyzer, in the Open Inference Protocol.

    Attributes:
        protocol: http or grpc.
        model: its name.
        batched: whether its `max_batch_size` is above 0.
        flags: further ones for perf_analyzer.
    """

    protocol: Protocol
    model: str
    batched: bool = False
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerSpec:
    """A server to measure.

    Attributes:
        name: as `--servers` takes it.
        title: as the table has it.
        settings: what was set, and what it was asked, in a sentence.
        requirements: packages, pinned; none for a server that this interpreter runs.
        start: writes what the server needs into its folder and says how to start it.
        way: how it is asked.
        ready_path: answers 200 once the server is ready.
        routed: whether images stop early; otherwise every image takes all experts.
    """

    name: str
    title: str
    settings: str
    requirements: tuple[str, ...]
    start: Callable[[LaunchContext], Start]
    way: HttpWay | ProtocolWay
    ready_path: str
    routed: bool = True


@dataclass(frozen=True)
class Running:
    """A server that is ready.

    Attributes:
        pid: its first process; others descend from it.
        port: for HTTP.
        grpc_port: for gRPC.
        ready_s: from the start of the process until it was ready.
    """

    pid: int
    port: int
    grpc_port: int
    ready_s: float


@contextmanager
def running(spec: ServerSpec, repository: Path, tools: Path = TOOLS) -> Iterator[Running]:
    """Start a server in a process group of its own, wait until it is ready, stop it at the end.

    Raises:
        ToolMissing: if its packages are not there and can't be installed.
        ServerFailed: if it ends or is not ready in time; with the last line that it printed.
    """
    python = environment_for(spec, tools)
    with TemporaryDirectory(prefix=f"{spec.name}-", ignore_cleanup_errors=True) as folder:
        context = _launch_context(python, repository, Path(folder))
        start = spec.start(context)
        began = time.perf_counter()
        process = _launched(start, context)
        try:
            _wait_until_ready(process, spec, context)
            ready_s = time.perf_counter() - began
            yield Running(process.pid, context.port, context.grpc_port, ready_s)
        finally:
            _stop(process)


def _launch_context(python: Path, repository: Path, folder: Path) -> LaunchContext:
    http, grpc, metrics = free_ports(3)
    models, cores = repository.resolve(), usable_cores()
    return LaunchContext(python, models, folder, http, grpc, metrics, cores)


def _launched(start: Start, context: LaunchContext) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PATH": f"{context.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONWARNINGS": "ignore",
        REPOSITORY_VARIABLE: str(context.repository),
        **start.environment,
    }
    allow_many_files()
    with context.log.open("wb") as output:
        return subprocess.Popen(
            start.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=context.folder,
            start_new_session=True,
        )


def environment_for(spec: ServerSpec, tools: Path = TOOLS) -> Path:
    """The interpreter that runs a server, in a virtual environment made when it is first needed.

    Raises:
        ToolMissing: if its packages can't be installed.
    """
    if not spec.requirements:
        return Path(sys.executable)
    package = spec.requirements[0].partition("==")[0].partition("[")[0]
    return environment(tools / "servers" / package, spec.requirements)


def _wait_until_ready(
    process: subprocess.Popen[bytes], spec: ServerSpec, context: LaunchContext
) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not is_ready(f"http://127.0.0.1:{context.port}{spec.ready_path}"):
        ended, late = process.poll(), time.monotonic() > deadline
        if late or ended is not None:
            what = "is not ready in time" if ended is None else f"ended with {ended}"
            why = last_line(context.log.read_text(errors="replace"))
            raise ServerFailed(f"the server {what}: {why}")
        time.sleep(0.02)


def is_ready(url: str) -> bool:
    """Whether an address answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 our own address
            return bool(answer.status == 200)
    except OSError:  # a URLError is one
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group, politely at first."""
    for stop in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, stop)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
