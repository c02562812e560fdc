"""NVIDIA's perf_analyzer: installs it into the checkout, runs it, reads its report.

    python -m benchmarks.perf_analyzer          install it and say where it is

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
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.errors import LoadFailed, LoadTimedOut, ToolMissing

TOOLS = Path(__file__).resolve().parents[1] / ".tools"
"""Where programs and servers for measurements are installed; git ignores it."""

Protocol = Literal["http", "grpc"]

_CLIENT = (
    "tritonclient==2.50.0",
    "manylinux1_x86_64",
    "421fbb69ae6ab8cdb2c35b82134fcef2fe11e7af7718b1fcbc53335ab9bfe889",
    "tritonclient-2.50.0.data/data/bin/perf_analyzer",
)
_CUDA_RUNTIME = (
    "nvidia-cuda-runtime-cu12==12.9.79",
    "manylinux2014_x86_64",
    "25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3",
    "nvidia/cuda_runtime/lib/libcudart.so.12",
)
VERSION = _CLIENT[0]
_B64 = "libb64.so.0d"
_PROGRAM = "perf_analyzer"


@dataclass(frozen=True)
class Report:
    """What perf_analyzer measured at one number of clients, or one rate.

    Attributes:
        load: clients, or requests a second that were offered.
        requests_per_s: answers a second, whatever the number of images in each.
        mean_ms: mean time to an answer.
        p50_ms: half of the answers took at most this.
        p90_ms: and 90 % this.
        p99_ms: and 99 % this.
        server_ms: what the server says of a mean request, by the report's column without
            `Server `; empty where it keeps no statistics.
    """

    load: float
    requests_per_s: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    server_ms: Mapping[str, float] = field(default_factory=dict)


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
            unpacked = Path(beside) / "unpacked"
            for wheel in (_CLIENT, _CUDA_RUNTIME):
                _unpack(*wheel, unpacked)
            (unpacked / _PROGRAM).chmod(0o755)
            shutil.rmtree(folder, ignore_errors=True)
            unpacked.rename(folder)
    return folder / _PROGRAM


def measure(
    address: str,
    model: str,
    protocol: Protocol,
    data: Sequence[str],
    *,
    requests: int,
    clients: int = 1,
    timeout_s: float = 300,
    tools: Path = TOOLS,
) -> Report:
    """Send exactly `requests` requests, each client one after the other.

    Args:
        address: host and port, without a scheme.
        model: its name.
        protocol: what `address` speaks.
        data: flags that say what to send: `--shape image:1,32,32,3` or `--input-data FILE`.
        requests: how many in all.
        clients: how many ask at the same time.
        timeout_s: when to give up.
        tools: where perf_analyzer is installed, or will be.

    Raises:
        ToolMissing: if perf_analyzer can't be installed.
        LoadTimedOut: if it took too long; now and then it hangs with many clients.
        LoadFailed: if it ended with an error or wrote no report.
    """
    program = install(tools)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        command = [
            *(str(program), "-m", model, "-i", protocol, "-u", address, *data),
            *("--request-count", str(requests), "--concurrency-range", str(clients)),
            *("--verbose-csv", "-f", str(report)),
        ]
        output = _run(command, program.parent, folder, timeout_s)
        try:
            text = report.read_text()
        except OSError:
            raise LoadFailed(f"perf_analyzer wrote no report: {_last_line(output)}") from None
    return parse_report(text)[0]


def parse_report(text: str) -> list[Report]:
    """Read the CSV that `-f` writes with `--verbose-csv`: a line for each load.

    Raises:
        LoadFailed: if a column is missing or no number.
    """
    rows = list(csv.DictReader(text.splitlines()))
    if not rows:
        raise LoadFailed("perf_analyzer's report is empty")
    try:
        return [_parse_row(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise LoadFailed(f"perf_analyzer's report has no usable {error}") from error


def _parse_row(row: Mapping[str, str]) -> Report:
    load = float(row["Concurrency"] if "Concurrency" in row else row["Request Rate"])
    mean_ms = float(row["Avg latency"]) / 1e3
    # Its own throughput is over whole seconds, which is coarse in a short measurement. A client
    # that asks again as soon as it is answered makes one request in each mean latency.
    closed = "Concurrency" in row and mean_ms > 0
    prefix = "Server "
    return Report(
        load=load,
        requests_per_s=load * 1e3 / mean_ms if closed else float(row["Inferences/Second"]),
        mean_ms=mean_ms,
        p50_ms=float(row["p50 latency"]) / 1e3,
        p90_ms=float(row["p90 latency"]) / 1e3,
        p99_ms=float(row["p99 latency"]) / 1e3,
        server_ms={
            column.removeprefix(prefix): float(value) / 1e3
            for column, value in row.items()
            if column.startswith(prefix) and value
        },
    )


def _run(command: list[str], libraries: Path, folder: str, timeout_s: float) -> str:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=environment,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        raise LoadTimedOut(f"perf_analyzer took more than {timeout_s:g} s") from None
    output = done.stdout + done.stderr
    if done.returncode:
        raise LoadFailed(f"perf_analyzer failed ({done.returncode}): {_last_line(output)}")
    return output


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _unpack(requirement: str, tag: str, sha256: str, member: str, folder: Path) -> None:
    """Download one wheel and take one file out of it."""
    with tempfile.TemporaryDirectory() as beside:
        pinned = Path(beside) / "requirements.txt"
        pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--disable-pip-version-check", "--only-binary=:all:", "--platform", tag),
            *("--python-version", "3.10", "--dest", beside, "--require-hashes"),
            *("--requirement", str(pinned)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolMissing(f"can't download {requirement}: {_last_line(done.stderr)}")
        (wheel,) = Path(beside).glob("*.whl")
        folder.mkdir(exist_ok=True)
        target = folder / Path(member).name
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
            target.open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy)


def _need_b64() -> None:
    if _loads(_B64):
        return
    apt_get = shutil.which("apt-get")
    if apt_get is None or os.geteuid() != 0:
        raise ToolMissing(
            f"perf_analyzer needs the library {_B64}: install your system's libb64, "
            "on Debian and Ubuntu with: sudo apt-get install libb64-0d"
        )
    subprocess.run([apt_get, "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
    command = [apt_get, "install", "-y", "-qq", "--no-install-recommends", "libb64-0d"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode or not _loads(_B64):
        raise ToolMissing(f"can't install libb64-0d: {_last_line(done.stdout + done.stderr)}")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def main() -> None:
    """Install perf_analyzer where it can run; elsewhere say why not, which is no failure."""
    if reason := unsupported():
        print(reason)
        return
    try:
        print(install())
    except ToolMissing as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
