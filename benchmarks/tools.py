"""Start the local Triton and tell where it listens, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.errors import ToolMissing
from benchmarks.local_triton.install import install, unsupported
from benchmarks.local_triton.launch import Ports, triton_start
from benchmarks.ports import free_ports


def main() -> None:
    """Read the flags, start, wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", type=Path, nargs="?", default=Path("model_repository"))
    for name in ("http", "grpc", "metrics"):
        parser.add_argument(f"--{name}-port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--install-only", action="store_true", help="download it, where it can run, and stop"
    )
    options, flags = parser.parse_known_args()
    if options.install_only and (reason := unsupported()):
        print(reason)
        return
    try:
        python = install()
    except ToolMissing as error:
        sys.exit(str(error))
    if options.install_only:
        print(python)
        return
    free = free_ports(3)
    ports = Ports(
        options.http_port or free[0], options.grpc_port or free[1], options.metrics_port or free[2]
    )
    sys.exit(_serve(python, options.repository.resolve(), ports, flags))


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
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5):  # noqa: S310 our own address
                break
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    else:
        return
    print(
        f"\nTriton is ready.\n  HTTP     {url}\n  gRPC     127.0.0.1:{ports.grpc}\n"
        f"  metrics  http://127.0.0.1:{ports.metrics}/metrics\n"
        f"Try: ride serve --triton 127.0.0.1:{ports.grpc}",
        flush=True,
    )


if __name__ == "__main__":
    main()
