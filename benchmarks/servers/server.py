"""One interface to every server that is measured: how it is installed, started and asked.

Each server has a small file in this folder that makes a `Contender`; those that need code of their
own have it in a file `.._app.py` beside it, which runs in the server's own virtual environment.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environments import environment
from benchmarks.errors import ServerFailed
from benchmarks.http_load import allow_many_files
from benchmarks.images import Images
from benchmarks.perf_analyzer import TOOLS, Protocol
from benchmarks.ports import free_ports
from benchmarks.start import Start

CHECKOUT = Path(__file__).resolve().parents[2]
REPOSITORY_VARIABLE = "RIDE_BENCH_REPOSITORY"
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 20


@dataclass(frozen=True)
class Place:
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


@dataclass(frozen=True)
class HttpWay:
    """Asking by plain HTTP: the path, the headers, and what a request's body is."""

    path: str
    bodies: Callable[[Images], list[bytes]]
    headers: Mapping[str, str] = field(default_factory=dict)


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
class Contender:
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
    start: Callable[[Place], Start]
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
def running(
    contender: Contender, python: Path, repository: Path, folder: Path
) -> Iterator[Running]:
    """Start a server in a process group of its own, wait until it is ready, stop it at the end.

    Raises:
        ServerFailed: if it ends or is not ready in time; with the last line that it printed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port, grpc_port, metrics_port = free_ports(3)
    cores = len(os.sched_getaffinity(0))
    place = Place(python, repository.resolve(), folder, port, grpc_port, metrics_port, cores)
    start = contender.start(place)
    environment = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONWARNINGS": "ignore",
        REPOSITORY_VARIABLE: str(place.repository),
        **start.environment,
    }
    log = folder / "log.txt"
    allow_many_files()
    with log.open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            start.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}{contender.ready_path}", log)
        yield Running(process.pid, port, grpc_port, time.perf_counter() - began)
    finally:
        _stop(process)


def environment_for(contender: Contender, tools: Path = TOOLS) -> Path:
    """The interpreter that runs a server, in a virtual environment made when it is first needed.

    Raises:
        ToolMissing: if its packages can't be installed.
    """
    if not contender.requirements:
        return Path(sys.executable)
    package = contender.requirements[0].partition("==")[0].partition("[")[0]
    return environment(tools / "servers" / package, contender.requirements)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"the server ended with {process.returncode}: {_last_line(log)}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 our own address
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.02)
    raise ServerFailed(f"not ready within {_START_TIMEOUT_S} s: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"


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
