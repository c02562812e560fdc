"""The programs that tests and measurements need: how to get one, and a Triton to try things on."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated, NoReturn

import typer

from benchmarks import kserve_client, perf_analyzer
from benchmarks.checkout import BUNDLED
from benchmarks.local_triton import install as triton
from benchmarks.local_triton.launch import Ports, triton_start
from benchmarks.ports import free_ports
from benchmarks.servers.server import is_ready

_Port = Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")]


class Program(StrEnum):
    """What can be installed."""

    PERF_ANALYZER = "perf-analyzer"
    TRITON = "triton"
    KSERVE_CLIENT = "kserve-client"


_SOURCES: dict[Program, ModuleType] = {
    Program.PERF_ANALYZER: perf_analyzer,
    Program.TRITON: triton,
    Program.KSERVE_CLIENT: kserve_client,
}


def install(
    program: Annotated[
        Program, typer.Argument(help="Triton and KServe's client take about 500 MB each.")
    ],
) -> Iterator[str]:
    """Install a program that measures or tests into .tools and say where it is.

    Where it can't run the reason is printed, which is no failure.
    """
    source = _SOURCES[program]
    yield source.unsupported() or str(source.install())


def local_triton(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL_REPOSITORY TRITON_FLAGS",
            help="What to serve, the bundled model if it is left out, and flags for Triton.",
        ),
    ] = None,
    http_port: _Port = 0,
    grpc_port: _Port = 0,
    metrics_port: _Port = 0,
) -> NoReturn:
    """Start a Triton without Docker and tell where it listens, until Ctrl-C.

    It is installed when it is first needed. Flags that are not known here go to Triton.

    Example: python -m benchmarks local-triton my_repository --grpc-port 8001
    """
    flags = list(given or ())
    named = bool(flags) and not flags[0].startswith("-")
    repository = Path(flags.pop(0)) if named else BUNDLED
    ports = [
        wanted or free
        for wanted, free in zip((http_port, grpc_port, metrics_port), free_ports(3), strict=True)
    ]
    raise typer.Exit(_serve(triton.install(), repository.resolve(), Ports(*ports), flags))


def _serve(python: Path, repository: Path, ports: Ports, flags: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="ride-triton-") as folder:
        start = triton_start(python, repository, Path(folder), ports, flags)
        process = subprocess.Popen(start.command, env={**os.environ, **start.environment})
        for stop in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stop, lambda number, _: process.send_signal(number))
        threading.Thread(target=_announce, args=(process, ports), daemon=True).start()
        code = process.wait()
    return 0 if code in {-signal.SIGINT, -signal.SIGTERM} else code


def _announce(process: subprocess.Popen[bytes], ports: Ports) -> None:
    """Say where it listens, once it is ready: below all that Triton prints."""
    url = f"http://127.0.0.1:{ports.http}"
    while not is_ready(f"{url}/v2/health/ready"):
        if process.poll() is not None:
            return
        time.sleep(0.1)
    print(
        f"\nTriton is ready.\n  HTTP     {url}\n  gRPC     127.0.0.1:{ports.grpc}\n"
        f"  metrics  http://127.0.0.1:{ports.metrics}/metrics\n"
        f"Try: ride serve --triton 127.0.0.1:{ports.grpc}",
        flush=True,
    )
