"""NVIDIA's perf_analyzer: installs it into the checkout, runs it, reads its report.

It is the load generator of Triton's own documentation, written in C++, so it takes little of the
processor from the server beside it. The program comes out of a wheel of Triton's client, and the
CUDA runtime that it is linked to out of another; both are pinned by their SHA-256. It runs without
a GPU. Debian's libb64 is installed where this is root.
"""

from __future__ import annotations

import csv
import ctypes
import os
import platform
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.checkout import TOOLS
from benchmarks.errors import LoadFailed, ToolMissing
from benchmarks.program import last_line, run

Protocol = Literal["http", "grpc"]

VERSION = "tritonclient==2.50.0"
_WHEELS = f"""\
{VERSION} --hash=sha256:421fbb69ae6ab8cdb2c35b82134fcef2fe11e7af7718b1fcbc53335ab9bfe889
nvidia-cuda-runtime-cu12==12.9.79 \
--hash=sha256:25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3
"""
_PLATFORMS = ("manylinux1_x86_64", "manylinux2014_x86_64")
_PROGRAM, _CUDA_RUNTIME = "perf_analyzer", "libcudart.so.12"
_B64 = "libb64.so.0d"


@dataclass(frozen=True)
class PerfReport:
    """What perf_analyzer measured.

    Attributes:
        requests_per_s: answers a second, whatever the number of images in each.
        mean_ms: mean time to an answer.
        p50_ms: half of the answers took at most this.
        p99_ms: and 99 % this.
    """

    requests_per_s: float
    mean_ms: float
    p50_ms: float
    p99_ms: float


def unsupported() -> str | None:
    """Why perf_analyzer can't run on this kind of machine; None where it can."""
    machine = platform.machine()
    if sys.platform == "linux" and machine == "x86_64":
        return None
    return f"perf_analyzer is for Linux on x86-64, and this is {sys.platform} on {machine}"


def install(tools: Path = TOOLS) -> Path:
    """Find perf_analyzer, or download it.

    Returns:
        The program, with the CUDA runtime's library beside it.

    Raises:
        ToolMissing: if this machine can't run it or it can't be downloaded.
    """
    if reason := unsupported():
        raise ToolMissing(reason)
    _need_b64()
    folder = tools / f"{_PROGRAM}-{VERSION.partition('==')[2]}"
    if not (folder / _PROGRAM).is_file():
        tools.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tools) as beside:
            unpacked = _download(Path(beside))
            shutil.rmtree(folder, ignore_errors=True)
            unpacked.rename(folder)
    return folder / _PROGRAM


def run_perf_analyzer(
    address: str,
    model: str,
    protocol: Protocol,
    data: Sequence[str],
    *,
    requests: int,
    clients: int = 1,
    timeout_s: float = 300,
) -> PerfReport:
    """Send exactly `requests` requests, each client one after the other.

    Args:
        address: host and port, without a scheme.
        model: its name.
        protocol: what `address` speaks.
        data: flags that say what to send: `--shape image:1,32,32,3` or `--input-data FILE`.
        requests: how many in all.
        clients: how many ask at the same time.
        timeout_s: when to give up.

    Raises:
        ToolMissing: if perf_analyzer can't be installed.
        LoadTimedOut: if it took too long; now and then it hangs with many clients.
        LoadFailed: if it ended with an error or wrote no report.
    """
    program = install()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        command = [
            *(str(program), "-m", model, "-i", protocol, "-u", address, *data),
            *("--request-count", str(requests), "--concurrency-range", str(clients)),
            *("--verbose-csv", "-f", str(report)),
        ]
        libraries = {**os.environ, "LD_LIBRARY_PATH": str(program.parent)}
        output = run(
            command,
            "perf_analyzer failed",
            LoadFailed,
            timeout_s=timeout_s,
            environment=libraries,
            folder=Path(folder),
        )
        if not report.is_file():
            raise LoadFailed(f"perf_analyzer wrote no report: {last_line(output)}")
        return parse_report(report.read_text())


def parse_report(text: str) -> PerfReport:
    """Read the line of the CSV that `-f` writes with `--verbose-csv` for a number of clients.

    Raises:
        LoadFailed: if a column is missing or no number.
    """
    names = ("Concurrency", "Avg latency", "p50 latency", "p99 latency")
    try:
        row = next(csv.DictReader(text.splitlines()))
        clients, mean, p50, p99 = (float(row[name]) for name in names)
        # Its own throughput is over whole seconds, which is coarse in a short measurement. A client
        # that asks again as soon as it is answered makes one request in each mean latency.
        return PerfReport(clients * 1e6 / mean, mean / 1e3, p50 / 1e3, p99 / 1e3)
    except StopIteration:
        raise LoadFailed("perf_analyzer's report is empty") from None
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise LoadFailed(f"perf_analyzer's report has no usable {error}") from error


def _download(folder: Path) -> Path:
    """Fetch both wheels and take the program out of one, its library out of the other."""
    pinned, unpacked = folder / "requirements.txt", folder / "unpacked"
    pinned.write_text(_WHEELS)
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
        *("--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"),
        *(f"--platform={platform}" for platform in _PLATFORMS),
        *("--python-version=3.10", f"--dest={folder}", f"--requirement={pinned}"),
    ]
    run(command, f"can't download {VERSION}", ToolMissing)
    unpacked.mkdir()
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if (name := Path(member.filename).name) in {_PROGRAM, _CUDA_RUNTIME}:
                    (unpacked / name).write_bytes(archive.read(member))
    (unpacked / _PROGRAM).chmod(0o755)
    return unpacked


def _need_b64() -> None:
    if _loads(_B64):
        return
    apt_get = shutil.which("apt-get")
    if apt_get is None or os.geteuid() != 0:
        raise ToolMissing(
            f"perf_analyzer needs the library {_B64}: install your system's libb64, "
            "on Debian and Ubuntu with: sudo apt-get install libb64-0d"
        )
    failed = "can't install libb64-0d"
    with suppress(ToolMissing):  # what it knows already may do
        run([apt_get, "update", "-qq"], failed, ToolMissing)
    command = [apt_get, "install", "-y", "-qq", "--no-install-recommends", "libb64-0d"]
    output = run(command, failed, ToolMissing)
    if not _loads(_B64):
        raise ToolMissing(f"{failed}: {last_line(output)}")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
