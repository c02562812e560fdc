"""How the local Triton is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkout import CHECKOUT
from benchmarks.local_triton.install import make_backends, site_packages, triton_folder
from benchmarks.program import Start

_SHARED_MEMORY_BYTES = 16 * 2**20
"""Of each instance of a Python model, in steps of as much: what does not fit grows it."""


@dataclass(frozen=True)
class Ports:
    """Where Triton listens, on the loopback address."""

    http: int
    grpc: int
    metrics: int


def triton_start(
    python: Path, repository: Path, folder: Path, ports: Ports, flags: Sequence[str] = ()
) -> Start:
    """How to start Triton on a model repository; `folder` gets its backends."""
    packages, backends = site_packages(python), folder / "backends"
    if not backends.exists():
        make_backends(python, backends)
    # Triton's Python takes packages from there alone, so this checkout is made one of them.
    link, content = packages / "ride_server.pth", f"{CHECKOUT}\n"
    if not link.exists() or link.read_text() != content:  # others may be reading it
        link.write_text(content)
    command = [
        str(triton_folder(python) / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        *_addresses(ports),
        "--allow-gpu-metrics=false",
        f"--backend-config=python,shm-default-byte-size={_SHARED_MEMORY_BYTES}",
        f"--backend-config=python,shm-growth-byte-size={_SHARED_MEMORY_BYTES}",
        *flags,
    ]
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "PYTHONPATH": str(packages),
        "OMP_NUM_THREADS": "1",
    }
    return Start(command, environment)


def _addresses(ports: Ports) -> list[str]:
    services = {"http": ports.http, "grpc": ports.grpc, "metrics": ports.metrics}
    return [
        flag
        for name, port in services.items()
        for flag in (f"--{name}-address=127.0.0.1", f"--{name}-port={port}")
    ]
