"""Installs Triton into a virtual environment of its own, below `.tools`."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from benchmarks.checkout import TOOLS
from benchmarks.environments import ORT, environment
from benchmarks.errors import ToolMissing

PYTRITON = "nvidia-pytriton==0.7.0"
REQUIREMENTS = (
    PYTRITON,
    ORT,
    "numpy==1.26.4",
    "pillow==13.0.0",
    "pydantic==2.14.4",
    "simplejpeg==1.9.0",
)
"""Triton's Python stubs read tensors wrong with numpy 2."""

_LEAST_GLIBC = (2, 35)
_PYTHONS = range(11, 14)
"""Minor versions for which the wheel has a stub, from the first that ride-server runs on."""


def unsupported() -> str | None:
    """Why Triton can't run on this machine; None where it can."""
    machine = platform.machine()
    if sys.platform != "linux" or machine != "x86_64":
        return f"Triton's wheel is for Linux on x86-64, and this is {sys.platform} on {machine}"
    glibc = platform.libc_ver()[1]
    if tuple(map(int, glibc.split(".")[:2])) < _LEAST_GLIBC:
        return f"Triton's wheel needs glibc 2.35 or newer, and this is {glibc or 'another libc'}"
    if sys.version_info.minor not in _PYTHONS:
        return f"Triton's wheel has no stub for Python 3.{sys.version_info.minor}"
    return None


def install(tools: Path = TOOLS) -> Path:
    """Find Triton, or download it (about 500 MB).

    Returns:
        The interpreter of its environment.

    Raises:
        ToolMissing: if this machine can't run it or it can't be downloaded.
    """
    if reason := unsupported():
        raise ToolMissing(reason)
    folder = tools / "servers" / PYTRITON.partition("==")[0]
    return environment(folder, REQUIREMENTS)


def site_packages(python: Path) -> Path:
    """Where an environment's packages lie."""
    return next((python.parent.parent / "lib").glob("python3.*/site-packages"))


def triton_folder(python: Path) -> Path:
    """Where the wheel has the server, its backends and stubs."""
    return site_packages(python) / "pytriton" / "tritonserver"


def make_backends(python: Path, folder: Path) -> None:
    """Write a backend directory: the wheel's Python backend and ours for ONNX Runtime."""
    server = triton_folder(python)
    shutil.copytree(server / "backends" / "python", folder / "python")
    stub = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(
        server / "python_backend_stubs" / stub / "triton_python_backend_stub", folder / "python"
    )
    (folder / "onnxruntime").mkdir()
    backend = Path(__file__).parent / "onnxruntime_backend.py"
    shutil.copy(backend, folder / "onnxruntime" / "model.py")
